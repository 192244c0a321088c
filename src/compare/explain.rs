//! The chapter of the README that explains what is compared, for those who have the program and not the page.

/// The chapter stands between these lines, so that it is written once.
const BEGIN: &str = "<!-- explain -->\n";
const END: &str = "<!-- /explain -->";

/// The chapter, as in the README.
pub fn chapter() -> &'static str {
    let readme = include_str!("../../README.md");
    readme.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).map_or("", |(chapter, _)| chapter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chapter_has_every_subject_and_a_command_for_each() {
        let chapter = chapter();

        for subject in [
            "Four layers",
            "is made",
            "is closed",
            "no messages",
            "Two buffers",
            "goes away",
            "vanishes",
            "Loss",
        ] {
            assert!(chapter.contains(subject), "{subject}");
        }
        assert_eq!(chapter.matches("```sh").count(), 7);
    }
}
