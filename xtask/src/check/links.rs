//! Whether every relative link in the Markdown files leads to something. Links into the web are not followed.

use crate::tools;
use anyhow::{Context, Result, bail, ensure};

pub(super) fn check() -> Result<()> {
    let root = tools::root();
    let mut broken = Vec::new();
    let mut seen = 0_usize;
    for path in super::ours(&root, "md")? {
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        for link in relative_links(&text) {
            seen += 1;
            let folder = path.parent().unwrap_or(&root);
            if !folder.join(link).exists() {
                broken.push(format!("{}: {link}", path.strip_prefix(&root).unwrap_or(&path).display()));
            }
        }
    }
    ensure!(seen > 0, "no Markdown file with a link below {}", root.display());
    if !broken.is_empty() {
        bail!("these links lead nowhere:\n     {}", broken.join("\n     "));
    }
    Ok(())
}

/// The targets of `[text](target)` that are files, without the place in the file.
fn relative_links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| {
        let target = rest.split_once(')')?.0.split('#').next()?.trim();
        (!target.is_empty() && !target.contains("://")).then_some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_to_files_are_followed() {
        let text = "See [a](x/y.rs), [b](https://example.com/z), [c](#below), [d](w.md#part) and (this).";
        assert_eq!(relative_links(text).collect::<Vec<_>>(), ["x/y.rs", "w.md"]);
    }
}
