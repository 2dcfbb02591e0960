//! `undoo convert`: a backup in another layout, as a file here.
//!
//! The file gets its name only when it is whole: until then it is called `….partial`.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::json;
use undoo_archive::{
    Backup,
    convert::{self, Converted},
    error::carry,
    write::Settings,
};
use undoo_core::{Kind, Problem, Result};
use undoo_engine::{
    encryption::{Outgoing, Recipients},
    order::Failure,
};

use super::{bytes, print_json};
use crate::{
    cli::{Convert, ConvertLayout},
    interrupt::{cancelled, interrupted},
    signature,
    ui::Ui,
};

pub(super) async fn run(arguments: &Convert, ui: &Ui) -> Result<(), Failure> {
    let recipients = Recipients::parse(&arguments.encrypt_to)?;
    let order = super::backup(&arguments.from, &arguments.keys)?;
    let backup = order.open(&undoo_storage::Options::default()).await?;
    let ours = backup.manifest.as_ref().is_some_and(|manifest| manifest.undoo.is_some());
    let layout = arguments.layout.unwrap_or(if ours { ConvertLayout::Oec } else { ConvertLayout::Undoo });
    let (level, threads) = (arguments.compression.level, arguments.compression.threads(None));
    let created_at = if ours { convert::time_of(&backup) } else { jiff::Timestamp::now() };
    let settings = Settings { level, threads, created_at };
    let (to, database) = (arguments.to.clone(), arguments.database.clone());
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let work = move || write(&backup, layout, settings, database.as_deref(), &recipients, &to, &stopped);
    let mut work = tokio::task::spawn_blocking(work);
    let done = tokio::select! {
        done = &mut work => done,
        () = interrupted() => {
            stop.store(true, Ordering::Relaxed);
            work.await
        }
    };
    let (converted, size) = done.map_err(|error| {
        Problem::new(Kind::Internal, "convert", "the conversion broke down", "please report this")
            .caused_by(error)
    })??;
    let to = arguments.to.display().to_string();
    if arguments.json {
        return print_json(&json!({
            "file": to,
            "bytes": size,
            "files": converted.files,
            "left_out": converted.left_out,
        }));
    }
    for left_out in &converted.left_out {
        ui.say(&format!("  left out    {left_out}"));
    }
    println!("{to}: {} files, {}", converted.files, bytes(size));
    Ok(())
}

fn write(
    backup: &Backup,
    layout: ConvertLayout,
    settings: Settings,
    database: Option<&str>,
    recipients: &Recipients,
    to: &Path,
    stop: &AtomicBool,
) -> Result<(Converted, u64)> {
    if to.exists() {
        return Err(Problem::new(
            Kind::Conflict,
            "output_exists",
            format!("{} is there already", to.display()),
            "Name another file, or move that one away.",
        ));
    }
    let partial = Partial::create(to)?;
    let out = BufWriter::with_capacity(1 << 20, Stoppable { file: &partial.file, stop });
    let out = Outgoing::new(out, recipients)?;
    let (out, converted) = match layout {
        ConvertLayout::Oec => convert::to_oec(backup, out, &settings, database)?,
        ConvertLayout::Undoo => {
            let signer = signature::signer()?;
            let version = env!("CARGO_PKG_VERSION");
            let (out, _, converted) = convert::to_undoo(backup, out, settings, version, Some(&signer))?;
            (out, converted)
        }
    };
    let flushed = out.finish()?.flush();
    flushed.map_err(|error| error.downcast().unwrap_or_else(|error| unwritable(to, error)))?;
    let size = partial.settle(to)?;
    Ok((converted, size))
}

/// A file that takes no more once it was asked to stop.
struct Stoppable<'a> {
    file: &'a File,
    stop: &'a AtomicBool,
}

impl Write for Stoppable<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(carry(cancelled()));
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file that is removed unless it is settled.
struct Partial {
    path: PathBuf,
    file: File,
    settled: bool,
}

impl Partial {
    fn create(to: &Path) -> Result<Self> {
        let mut name = to.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let path = to.with_file_name(name);
        let file = File::options().write(true).create_new(true).open(&path);
        let file = file.map_err(|error| unwritable(&path, error))?;
        Ok(Self { path, file, settled: false })
    }

    /// Gives it its name, once it is on the disk.
    fn settle(mut self, to: &Path) -> Result<u64> {
        let failed = |error| unwritable(to, error);
        self.file.sync_all().map_err(failed)?;
        let size = self.file.metadata().map_err(failed)?.len();
        fs::rename(&self.path, to).map_err(failed)?;
        self.settled = true;
        Ok(size)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.settled {
            // What remains of it has a name that says what it is.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn unwritable(path: &Path, error: io::Error) -> Problem {
    let code =
        if error.kind() == io::ErrorKind::AlreadyExists { "output_exists" } else { "output_unwritable" };
    Problem::new(
        Kind::Unavailable,
        code,
        format!("{} cannot be written", path.display()),
        "Check the folder, its rights and its room; a file named .partial is left from a run that was killed.",
    )
    .caused_by(error)
}

#[cfg(test)]
mod tests {
    use undoo_archive::backup::BackupInput;
    use undoo_core::BackupId;

    use super::*;

    fn settings() -> Settings {
        Settings { level: 1, threads: 1, created_at: jiff::Timestamp::UNIX_EPOCH }
    }

    fn backup() -> Backup {
        let dump = "--\n-- PostgreSQL database dump\n--\n\nSET a = 1;\n\n--\n-- PostgreSQL database dump complete\n--\n";
        let mut writer =
            undoo_archive::write::BackupWriter::new(Vec::new(), settings()).expect("threads to be had");
        writer.database(&mut dump.as_bytes()).expect("a whole dump");
        let description = undoo_archive::write::Description {
            backup_id: BackupId::generate(),
            undoo_version: "0".into(),
            organisation: None,
            odoo: undoo_archive::manifest::ours::OdooKeys { db_name: "acme".into(), ..Default::default() },
            environment: Default::default(),
            database_only: false,
            warnings: Vec::new(),
        };
        let (bytes, _) = writer.finish(description, None).expect("written");
        Backup::open(BackupInput::Single(Arc::new(bytes), "b.zip".into())).expect("a backup")
    }

    #[test]
    fn a_file_gets_its_name_when_it_is_whole_and_none_when_it_was_interrupted() {
        let folder = std::env::temp_dir().join(format!("undoo-convert-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("made");
        let to = folder.join("b.zip");
        let names = || fs::read_dir(&folder).expect("read").count();
        let (plain, stop) = (Recipients::default(), AtomicBool::new);
        let convert =
            |stopped| write(&backup(), ConvertLayout::Oec, settings(), None, &plain, &to, &stop(stopped));
        assert_eq!(convert(true).expect_err("interrupted").kind, Kind::Cancelled);
        assert_eq!(names(), 0);
        let (_, size) = convert(false).expect("converted");
        assert_eq!((names(), fs::metadata(&to).expect("there").len()), (1, size));
        assert_eq!(convert(false).expect_err("there already").code, "output_exists");
        assert_eq!(names(), 1);
        fs::remove_dir_all(folder).expect("removed");
    }
}
