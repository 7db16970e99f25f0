//! Which programs of tests there are and in which order they run. Decides only; runs nothing.

/// One program of tests: `e2e/tests/<name>.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) name: &'static str,
    /// How many of its tests run at once: two shops beside the sample fit into two cores by their requests.
    pub(super) at_once: usize,
    /// Whether it needs the very cluster of `make up`, and not just any.
    pub(super) local: bool,
}

const fn program(name: &'static str, at_once: usize) -> Program {
    Program { name, at_once, local: false }
}

/// In the order in which they run. `chart` comes last and alone: it takes the operator away and brings it back.
pub(super) const PROGRAMS: &[Program] = &[
    Program { name: "readme", at_once: 1, local: true },
    program("templates", 1),
    program("kustomize", 1),
    program("schema", 2),
    program("cluster", 2),
    program("plugin", 1),
    program("security", 2),
    program("network", 1),
    program("rollout", 1),
    program("drain", 1),
    program("under_faults", 1),
    // Its operators are the only ones.
    program("life", 1),
    program("repairs", 1),
    program("scaling", 1),
    program("keda", 1),
    program("shared", 1),
    program("chart", 1),
];

/// Where a test that is no part of the cluster's suite stands: it drives `cargo xtask demo`.
#[cfg(test)]
const ELSEWHERE: &str = "demo";

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_program_of_tests_is_forgotten() {
        let files = std::fs::read_dir(crate::tools::root().join("e2e/tests")).unwrap();
        let files: BTreeSet<String> = files
            .map(|file| file.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "rs"))
            .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        let planned = PROGRAMS.iter().map(|program| program.name).chain([ELSEWHERE]);
        assert_eq!(files, planned.map(str::to_owned).collect());
    }

    #[test]
    fn the_operator_goes_away_when_nobody_needs_it_any_more() {
        assert_eq!(PROGRAMS[PROGRAMS.len() - 1].name, "chart");
        // What `shared` removes is used by those before it.
        assert_eq!(PROGRAMS[PROGRAMS.len() - 2].name, "shared");
    }
}
