//! docs/api.md: the header's comments as a page to browse, with the areas of docs/functions.md as its chapters. `BLESS=1` writes it.

use std::fmt::Write as _;

use super::support::repository;

/// A comment of the header's and what it is about.
struct Item {
    comment: Vec<String>,
    /// Without its comments; of a struct with its fields, and what is said of each.
    declaration: String,
    fields: Vec<(String, String)>,
}

impl Item {
    fn name(&self) -> &str {
        let head = match self.declaration.strip_prefix("typedef struct ") {
            Some(rest) => rest,
            None if self.declaration.starts_with("typedef") => self.declaration.split("(*").nth(1).unwrap(),
            None => {
                let head = self.declaration.strip_prefix("#define ").unwrap_or(&self.declaration);
                let head = head.split('(').next().unwrap();
                match self.declaration.starts_with('#') {
                    true => head,
                    false => &head[head.rfind([' ', '*']).unwrap() + 1..],
                }
            }
        };
        head.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap()
    }
}

/// What stands between `/**` and `*/`, by line.
fn comment_of(text: &str) -> Vec<String> {
    text.lines().map(|line| line.trim().trim_start_matches('*').trim().to_owned()).collect()
}

fn items() -> Vec<Item> {
    let header = std::fs::read_to_string(repository().join("include/boxlite_images.h")).unwrap();
    let mut found = Vec::new();
    let mut rest =
        header.split_once("#define BL_LOG_OFF").map(|(before, _)| &header[before.rfind("/**").unwrap()..]).unwrap();
    while let Some((_, after)) = rest.split_once("\n/**\n").or_else(|| rest.split_once("/**\n")) {
        let (comment, after) = after.split_once("*/\n").unwrap();
        let body = after.trim_start();
        let mut fields = Vec::new();
        let (declaration, next) = if body.starts_with("#define") {
            body.split_once('\n').unwrap()
        } else if body.starts_with("typedef struct") && body.lines().next().unwrap().ends_with('{') {
            let (inside, next) = body.split_once("\n}").unwrap();
            for part in inside.split("/**").skip(1) {
                let (comment, field) = part.split_once("*/").unwrap();
                fields.push((
                    field.trim().trim_end_matches(';').to_owned(),
                    comment_of(comment).join(" ").trim().to_owned(),
                ));
            }
            (inside.lines().next().unwrap(), next)
        } else {
            body.split_once(";\n").unwrap()
        };
        let declaration = declaration.trim_end_matches(';').to_owned();
        found.push(Item { comment: comment_of(comment), declaration, fields });
        rest = next;
    }
    found
}

/// Text for Markdown: what C writes with stars and angles, and links to functions.
fn markdown(text: &str) -> String {
    let mut out = String::new();
    for (i, part) in text.split('`').enumerate() {
        if i % 2 == 1 {
            write!(out, "`{part}`").unwrap();
            continue;
        }
        let part = part.replace('*', "\\*").replace('<', "&lt;");
        let mut rest = &part[..];
        while let Some(at) = rest.find("bl_") {
            let len = rest[at..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len() - at);
            let name = &rest[at..at + len];
            out.push_str(&rest[..at]);
            if rest[at + len..].starts_with("()") {
                write!(out, "[`{name}()`](#{name})").unwrap();
                rest = &rest[at + len + 2..];
            } else {
                out.push_str(name);
                rest = &rest[at + len..];
            }
        }
        out.push_str(rest);
    }
    out
}

/// Paragraphs; arguments as a list, statuses as a table.
fn prose(comment: &[String]) -> String {
    let mut out = String::new();
    for paragraph in comment.split(String::is_empty).filter(|lines| !lines.is_empty()) {
        // A command goes on until the next one.
        let mut parts: Vec<String> = Vec::new();
        for line in paragraph {
            match parts.last_mut() {
                Some(part) if part.starts_with('@') && !line.starts_with('@') => *part += &format!(" {line}"),
                _ => parts.push(line.clone()),
            }
        }
        let mut is_in_table = false;
        for part in parts {
            let (command, rest) = part.split_once(' ').unwrap_or((&part, ""));
            if std::mem::replace(&mut is_in_table, command == "@retval") != is_in_table {
                out.push_str(if is_in_table { "| status | when |\n|---|---|\n" } else { "\n" });
            }
            match command {
                "@param" => {
                    // Several share a text: `data, len the bytes`.
                    let names = rest.split(' ').take_while(|word| word.ends_with(',')).count() + 1;
                    let (names, text): (Vec<&str>, Vec<&str>) =
                        (rest.split(' ').take(names).collect(), rest.split(' ').skip(names).collect());
                    writeln!(out, "- `{}`: {}", names.join(" "), markdown(&text.join(" "))).unwrap();
                }
                "@retval" => {
                    let (status, text) = rest.split_once(' ').unwrap_or((rest, ""));
                    writeln!(out, "| `{status}` | {} |", markdown(text)).unwrap();
                }
                "@return" => writeln!(out, "Returns {}\n", markdown(rest)).unwrap(),
                "@note" => writeln!(out, "{}", markdown(rest)).unwrap(),
                "@since" => writeln!(out, "Since {rest}.").unwrap(),
                _ => writeln!(out, "{}", markdown(&part)).unwrap(),
            }
        }
        out.push('\n');
    }
    out
}

/// Doxygen and clangd show what has their commands: each argument that a comment speaks of, each status, and the version.
#[test]
fn every_function_is_documented_in_their_form() {
    let mut count = 0;
    for item in items().iter().filter(|item| item.declaration.contains('(') && !item.declaration.contains("(*")) {
        let (name, text) = (item.name(), item.comment.join("\n"));
        if !name.starts_with("bl_") || item.declaration.starts_with('#') {
            continue;
        }
        count += 1;
        assert!(text.contains("@since "), "{name} does not say since when");
        if item.declaration.contains("bl_error **err") {
            assert!(text.contains("@retval BL_OK") || text.contains("@return "), "{name} does not say what it returns");
        }
        for line in text.lines().filter_map(|line| line.strip_prefix("@param ")) {
            for word in line.split(' ').take_while(|word| word.ends_with(',')).chain(line.split(' ').take(1)) {
                let argument = word.trim_end_matches(',');
                assert!(item.declaration.contains(argument), "{name} has no argument {argument}");
            }
        }
        let is_old = |line: &str| ["Returns:", "Since:"].iter().any(|word| line.contains(word));
        assert!(!text.lines().any(is_old), "{name} has another form");
    }
    assert!(count > 90, "only {count} functions were seen");
}

#[test]
fn the_reference_is_up_to_date() {
    let table = std::fs::read_to_string(repository().join("docs/functions.md")).unwrap();
    let rows =
        table.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | ")).filter(|(area, _)| *area != "area");
    let areas: Vec<(&str, Vec<&str>)> =
        rows.map(|(area, names)| (area, names.split('`').skip(1).step_by(2).collect())).collect();
    let items = items();
    let mut out = String::from(
        "# Reference\n\n<!-- Generated from include/boxlite_images.h. -->\n\nWhat holds for every function, the header says at its top: \
         ownership, errors, threads, sizes of structs.\n\n",
    );
    for (area, _) in &areas {
        writeln!(out, "- [{area}](#{})", area.replace(' ', "-")).unwrap();
    }
    out.push_str("- [structs and callbacks](#structs-and-callbacks)\n- [constants](#constants)\n");
    let mut documented = 0;
    for (area, names) in &areas {
        writeln!(out, "\n## {area}").unwrap();
        for name in names {
            let item = items.iter().find(|item| item.name() == *name && !item.declaration.starts_with("typedef"));
            let item = item.unwrap_or_else(|| panic!("{name} is not in the header"));
            write!(out, "\n### {name}\n\n```c\n{};\n```\n\n{}", item.declaration, prose(&item.comment).trim_end())
                .unwrap();
            out.push('\n');
            documented += 1;
        }
    }
    out.push_str("\n## structs and callbacks\n");
    for item in items.iter().filter(|item| item.declaration.starts_with("typedef")) {
        write!(out, "\n### {}\n\n{}\n", item.name(), prose(&item.comment).trim_end()).unwrap();
        if !item.declaration.starts_with("typedef struct") {
            write!(out, "\n```c\n{};\n```\n", item.declaration).unwrap();
        }
        if !item.fields.is_empty() {
            out.push_str("\n| field | |\n|---|---|\n");
        }
        for (field, meaning) in &item.fields {
            writeln!(out, "| `{field}` | {} |", markdown(meaning).replace('|', "\\|")).unwrap();
        }
    }
    out.push_str("\n## constants\n\nStatuses, limits and anomalies are in [errors.md](errors.md).\n\n| | value | |\n|---|---|---|\n");
    for item in items.iter().filter(|item| item.declaration.starts_with("#define")) {
        let value = item.declaration.rsplit(' ').next().unwrap();
        writeln!(
            out,
            "| `{}` | {value} | {} |",
            item.name(),
            markdown(item.comment.join(" ").trim()).replace('|', "\\|")
        )
        .unwrap();
    }
    assert_eq!(documented, super::null_arguments::functions().len());
    super::generated::is_up_to_date(&repository().join("docs/api.md"), &out);
}
