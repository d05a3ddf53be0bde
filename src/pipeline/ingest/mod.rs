//! The room `ingest`.
