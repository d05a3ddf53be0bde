//! What `--out` holds: the audit trail, alerts and dead letters, appended as they come, and the
//! figures at the end. Nothing that is there is ever written over.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::cli::exit::{Exit, Failure};
use crate::daemon::broker::embedded::Cluster;
use crate::daemon::reader::TopicReader;
use crate::pipeline::record::TopicPartition;
use crate::settings::Settings;

/// The files of one folder.
pub(super) struct OutFiles {
    streams: Vec<Stream>,
    metrics: PathBuf,
}

/// One topic, appended to one file.
struct Stream {
    source: TopicPartition,
    path: PathBuf,
    file: BufWriter<File>,
    next: i64,
    /// The newest record stays with the broker: a restore reads the chain from its head on.
    keeps_newest: bool,
}

impl OutFiles {
    /// New files in `folder` for what becomes of `source`.
    ///
    /// # Errors
    /// The folder can't be made, or holds one of the files already.
    pub(super) fn make(folder: &Path, settings: &Settings, source: &str) -> Result<Self, Failure> {
        std::fs::create_dir_all(folder)
            .map_err(|e| Failure::io(&folder.display().to_string(), &e))?;
        let names = &settings.names;
        let stream = |name: &str, topic: String, keeps_newest| {
            let path = folder.join(name);
            let file = File::options().write(true).create_new(true).open(&path);
            let file = file.map_err(|error| Failure::io(&path.display().to_string(), &error))?;
            let (source, file) = (TopicPartition::new(topic, 0), BufWriter::new(file));
            Ok::<_, Failure>(Stream { source, path, file, next: 0, keeps_newest })
        };
        let streams = vec![
            stream("audit.jsonl", names.audit.topic(source), true)?,
            stream("alerts.jsonl", names.alerts.to_string(), false)?,
            stream("dead-letters.jsonl", names.dead_letters.to_string(), false)?,
        ];
        Ok(Self { streams, metrics: folder.join("metrics.txt") })
    }

    /// Appends what has come since; the broker keeps none of it longer than it must.
    ///
    /// # Errors
    /// A file can't be written.
    pub(super) fn append(&mut self, cluster: &mut Cluster) -> Result<(), Failure> {
        self.streams.iter_mut().try_for_each(|stream| stream.append(cluster))
    }

    /// Appends the rest and writes the figures.
    ///
    /// # Errors
    /// A file can't be written.
    pub(super) fn finish(mut self, cluster: &mut Cluster, metrics: &str) -> Result<(), Failure> {
        self.append(cluster)?;
        std::fs::write(&self.metrics, metrics)
            .map_err(|error| Failure::io(&self.metrics.display().to_string(), &error))
    }
}

impl Stream {
    fn append(&mut self, cluster: &mut Cluster) -> Result<(), Failure> {
        let (_, to) = cluster.range(&self.source)?;
        if to == self.next {
            return Ok(());
        }
        let (file, mut written, mut newest) = (&mut self.file, Ok(()), None);
        TopicReader::read(cluster, &self.source, self.next, to, &mut |record| {
            newest = Some(record.offset);
            if let (Some(value), true) = (record.value, written.is_ok()) {
                written = file.write_all(value).and_then(|()| file.write_all(b"\n"));
            }
        })?;
        written
            .and_then(|()| self.file.flush())
            .map_err(|error| Failure::io(&self.path.display().to_string(), &error))?;
        self.next = to;
        let kept = if self.keeps_newest { newest } else { Some(to) };
        let Some(kept) = kept else { return Ok(()) };
        let deleted = cluster.delete_records(&self.source, kept);
        deleted.map_err(|error| Failure::new(Exit::Software, format!("embedded broker: {error}")))
    }
}
