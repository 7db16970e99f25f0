//! The commands of README.md, so that a test can run them: every fenced block whose first line names a
//! stage after the language: `sh demo`.

use crate::demo::{repository, run as run_program};
use anyhow::{Context, Result, ensure};
use tokio::process::Command;

/// Runs the commands of this stage one after another. Each must succeed and print something.
///
/// `replace` turns the addresses of the text into those of the shop that the test has.
pub async fn run(stage: &str, replace: &[(&str, &str)]) -> Result<()> {
    let file = repository().join("README.md");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let commands = commands(&text, stage);
    ensure!(!commands.is_empty(), "README.md has no commands for {stage:?}");
    for command in commands {
        let command = replace.iter().fold(command, |text, (from, to)| text.replace(from, to));
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", &command]).current_dir(repository());
        let answer = run_program(&mut bash).await?;
        ensure!(!answer.trim().is_empty(), "no output: {command}");
    }
    Ok(())
}

/// The commands of all blocks of this stage, in the order of the text. A command may go over several lines
/// that end in a backslash; empty lines and comments are left out.
#[must_use]
pub fn commands(markdown: &str, stage: &str) -> Vec<String> {
    let fence = format!("```sh {stage}");
    let mut commands = Vec::new();
    let mut inside = false;
    let mut command = String::new();
    for line in markdown.lines() {
        if inside && line.trim() == "```" {
            inside = false;
        } else if inside && !line.trim().is_empty() && !line.trim_start().starts_with('#') {
            command.push_str(line);
            command.push('\n');
            if !line.ends_with('\\') {
                commands.push(std::mem::take(&mut command).trim_end().to_owned());
            }
        } else if line.trim() == fence {
            inside = true;
        }
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_blocks_of_the_stage_are_taken() {
        let text = "```sh demo\n# look\ncurl x\n\n```\n```sh\nrm y\n```\n```sh cluster\nkubectl z\n```\n```sh demo\na \\\n  b\n```\n";
        assert_eq!(commands(text, "demo"), ["curl x", "a \\\n  b"]);
        assert_eq!(commands(text, "cluster"), ["kubectl z"]);
    }
}
