//! Words: sentences of the docs, the header and the comments are as short as docs/STYLE.md says.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::repository;

const MAX_WORDS: usize = 25;

/// What is read, by folder and ending. `docs/api.md` is made from the header, so it is not read.
const TEXTS: &[(&str, &str)] = &[
    ("", "md"),
    ("docs", "md"),
    ("benches", "md"),
    ("include", "h"),
    ("include", "hpp"),
    ("src", "rs"),
    ("tests", "rs"),
];

#[test]
fn a_sentence_has_at_most_twenty_five_words() {
    let mut long = Vec::new();
    let mut read = 0;
    for (folder, ending) in TEXTS {
        for file in files(&repository().join(folder), ending, !folder.is_empty()) {
            let text = fs::read_to_string(&file).unwrap();
            read += 1;
            for sentence in paragraphs(&text, ending).iter().flat_map(|p| sentences(p)) {
                let words = count_words(&sentence);
                if words > MAX_WORDS {
                    long.push(format!("{}: {words}: {sentence}", file.display()));
                }
            }
        }
    }
    assert!(read > 200, "only {read} texts were found");
    assert!(long.is_empty(), "{} sentences are too long:\n{}", long.len(), long.join("\n"));
}

/// The counting itself, without which the test above could not fail.
#[test]
fn sentences_are_found_in_each_kind_of_text() {
    let row = |kind, text: &str| -> Vec<usize> {
        paragraphs(text, kind).iter().flat_map(|p| sentences(p)).map(|s| count_words(&s)).collect()
    };
    assert_eq!(row("md", "One two.\nThree four five\nsix. Seven"), [2, 4, 1]);
    assert_eq!(row("md", "# Title\n\n- one two\n- three, `four five`\n\n| a b | c |\n"), [2, 2, 2, 1]);
    assert_eq!(row("md", "```c\nint a; int b; int c;\n```\nSee [the page](a b c.md) now."), [4]);
    assert_eq!(row("rs", "/// One two\n/// three.\nfn f() {} // not this\n//! Four\n"), [3, 1]);
    assert_eq!(row("rs", "/// One.\n/// @param a two three\n/// @retval B four\n"), [1, 4, 3]);
    assert_eq!(row("h", "/** One two\n *  three. */\nint a; /* four */\n"), [3, 1]);
    assert_eq!(row("md", "A file of 1.5 GiB, docs/a.md and a.b.c (see x).\n"), [10]);
}

fn files(folder: &Path, ending: &str, deep: bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && deep {
            found.extend(files(&path, ending, deep));
        } else if path.extension().is_some_and(|e| e == ending) && !path.ends_with("docs/api.md") {
            found.push(path);
        }
    }
    found
}

/// Runs of text that no sentence goes beyond: paragraphs, items of lists, cells of tables.
fn paragraphs(text: &str, kind: &str) -> Vec<String> {
    let lines = match kind {
        "md" => text.lines().map(str::to_owned).collect(),
        "rs" => text.lines().map(rust_comment).collect(),
        _ => c_comments(text),
    };
    let (mut found, mut current, mut code) = (Vec::new(), String::new(), false);
    for line in lines {
        let line = line.trim();
        if line.starts_with("```") {
            code = !code;
        }
        let item = ["- ", "* ", "@"].iter().any(|m| line.starts_with(m))
            || line.split_once(". ").is_some_and(|(n, _)| n.parse::<u32>().is_ok());
        let apart = code || line.is_empty() || ["|", "#", "<", "```"].iter().any(|m| line.starts_with(m));
        if (apart || item) && !current.is_empty() {
            found.push(std::mem::take(&mut current));
        }
        if line.starts_with('|') && !code {
            found.extend(line.trim_matches('|').split(" | ").map(str::to_owned));
        } else if !apart {
            current.push_str(line.trim_start_matches(['-', '*']));
            current.push(' ');
        }
    }
    found.push(current);
    found
}

/// What a comment line says; nothing for code, which ends a paragraph.
fn rust_comment(line: &str) -> String {
    let line = line.trim_start();
    let text = ["///", "//!", "//"].iter().find_map(|mark| line.strip_prefix(mark));
    text.unwrap_or("").to_owned()
}

fn c_comments(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for comment in text.split("/*").skip(1) {
        let comment = comment.split("*/").next().unwrap_or("");
        lines.extend(comment.lines().map(|l| l.trim().trim_start_matches('*').to_owned()));
        lines.push(String::new());
    }
    lines
}

/// A full stop ends a sentence if a space follows; code in backticks is one word.
fn sentences(paragraph: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    let (mut code, mut link) = (false, false);
    let mut chars = paragraph.trim().chars().peekable();
    while let Some(c) = chars.next() {
        code ^= c == '`';
        link = (link || found.last().is_some_and(|s| s.ends_with(']')) && c == '(') && c != ')';
        let c = if (code || link) && (c == ' ' || c == '.') { '_' } else { c };
        let Some(sentence) = found.last_mut() else { continue };
        sentence.push(c);
        if matches!(c, '.' | '?' | '!') && chars.peek() == Some(&' ') {
            found.push(String::new());
        }
    }
    found.retain(|s| count_words(s) > 0);
    found
}

fn count_words(sentence: &str) -> usize {
    sentence.split_whitespace().filter(|w| w.chars().any(char::is_alphanumeric)).count()
}
