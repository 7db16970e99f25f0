//! `eventstore export` and `eventstore import`.

use crate::args::{Import, Server};
use crate::connect;
use crate::exit::{Done, Failure};
use crate::output::Out;
use serde_json::json;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

/// Written under another name until it is whole, so that a file of this name is always a whole one.
pub(super) async fn export(server: &Server, file: &Path, out: &mut Out) -> Result<Done, Failure> {
    if file.exists() {
        return Err(Failure::Usage(format!("{} is there already", file.display())));
    }
    let store = connect::look(server).await?;
    let streams = store.streams().await?;
    let part = part_of(file);
    let at = |e: io::Error| Failure::Failed(format!("{}: {e}", part.display()));
    let mut to = BufWriter::new(File::create(&part).map_err(at)?);
    let exported = match store.export(streams).write(&mut to).await {
        Ok(exported) => exported,
        Err(e) => {
            // What is left of it is of no use; that it cannot be removed changes nothing.
            let _ = fs::remove_file(&part);
            return Err(Failure::Failed(e.to_string()));
        }
    };
    to.flush().and_then(|()| to.get_ref().sync_all()).and_then(|()| fs::rename(&part, file)).map_err(at)?;
    if out.json {
        out.value(&json!({ "file": file, "entries": exported.events, "sha256": exported.sha256 }))?;
    } else {
        out.line(format!("{} entries in {}, sha256 {}", exported.events, file.display(), exported.sha256))?;
    }
    Ok(Done::Fine)
}

fn part_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

pub(super) async fn import(server: &Server, args: &Import, out: &mut Out) -> Result<Done, Failure> {
    let failed = |e: event_store::ImportError| Failure::Failed(e.to_string());
    let store = connect::change(server).await?;
    let import = store.import(&args.file, &args.kinds.kind);
    let (new, known) = if args.dry_run {
        let preview = import.preview().await.map_err(failed)?;
        (preview.new, preview.known)
    } else {
        let imported = import.run().await.map_err(failed)?;
        (imported.new, imported.known)
    };
    if out.json {
        out.value(&json!({ "dry_run": args.dry_run, "new": new, "known": known }))?;
    } else {
        let what = if args.dry_run { "would be imported" } else { "imported" };
        out.line(format!("{new} entries {what}, {known} were there already"))?;
    }
    Ok(Done::Fine)
}
