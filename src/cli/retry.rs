//! `--retry-failed`: what failed in an earlier run, from the result that `--json` printed.

use std::{fs::File, io::Read as _, path::Path};

use serde::Deserialize;

use super::{
    exit::{Exit, Failure},
    output::shown,
};

/// Largest result that is read, bytes: holds `limits::FAILURES_KEPT` names of full length.
const RESULT_MAX_BYTES: u64 = 64 << 20;

/// Of a result, what counts here.
#[derive(Deserialize)]
struct Earlier {
    confirmed: bool,
    failed: u64,
    failures: Vec<EarlierFailure>,
}

#[derive(Deserialize)]
struct EarlierFailure {
    name: String,
    name_hex: Option<String>,
}

/// The names that the result in `path` lists as failed. A run that broke off is refused, since more than these did not
/// arrive, and so is one without failures.
pub fn failed_names(path: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let usage = |text: &str| Failure::new(Exit::Usage, format!("{}: {text}", shown(path)));
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(RESULT_MAX_BYTES).read_to_string(&mut text)).map_err(
        |error| Failure::new(Exit::LocalFile, format!("{}: cannot read it: {error}", shown(path))),
    )?;
    let earlier: Earlier =
        serde_json::from_str(&text).map_err(|_| usage("is not the result of an earlier run with --json"))?;
    if !earlier.confirmed {
        return Err(
            usage("is the result of a run that broke off; run the command without --retry-failed").into()
        );
    }
    if earlier.failures.is_empty() {
        return Err(usage("lists no failed file; run the command without --retry-failed").into());
    }
    if earlier.failed > earlier.failures.len() as u64 {
        let text = "lists only the first of its failures; run the command without --retry-failed, \
                    what is there already is skipped";
        return Err(usage(text).into());
    }
    let name = |failure: EarlierFailure| match failure.name_hex {
        Some(hex) => data_encoding::HEXLOWER.decode(hex.as_bytes()).ok(),
        None => Some(failure.name.into_bytes()),
    };
    let names: Option<Vec<_>> = earlier.failures.into_iter().map(name).collect();
    Ok(names.ok_or_else(|| usage("holds a name that is no hex"))?)
}
