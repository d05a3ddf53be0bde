//! What a stage hands to the shard.
