//! Who we are to a registry: Basic, or a token that another server gives for it (distribution spec, token
//! authentication).
//!
//! The registry names the token server, so the registry is not believed. The server must be reached
//! by https unless the registry itself is not. Its answer is bounded, and it may not send us on.

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::error::{Error, Result, Status, quoted};

/// What a registry asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// Out of the values of `WWW-Authenticate` (RFC 9110, 11.6.1). A token goes before a password.
    pub(super) fn parse<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
        let mut found = None;
        for header in headers.flat_map(challenges) {
            let header = header.trim();
            let (scheme, rest) = header.split_once(' ').unwrap_or((header, ""));
            if scheme.eq_ignore_ascii_case("bearer") {
                let parameters = parameters(rest);
                let value = |name: &str| {
                    parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
                };
                if let Some(realm) = value("realm") {
                    return Some(Challenge::Bearer { realm, service: value("service"), scope: value("scope") });
                }
            } else if scheme.eq_ignore_ascii_case("basic") {
                found = Some(Challenge::Basic);
            }
        }
        found
    }
}

/// The challenges in one header: each begins with a scheme, which is a word that no equals sign follows.
fn challenges(header: &str) -> Vec<&str> {
    let (mut found, mut begin, mut is_quoted, mut is_escaped) = (Vec::new(), 0, false, false);
    for (at, character) in header.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => {
                let rest = header[at + 1..].trim_start();
                let word = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(rest.len());
                if word > 0 && !rest[word..].trim_start().starts_with('=') {
                    found.push(&header[begin..at]);
                    begin = at + 1;
                }
            }
            _ => {}
        }
    }
    found.push(&header[begin..]);
    found
}

/// `a="b, c", d=e`.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some((key, after)) = rest.split_once('=') {
        let key = key.trim().trim_start_matches(',').trim().to_owned();
        let after = after.trim_start();
        let mut value = String::new();
        if let Some(quoted) = after.strip_prefix('"') {
            let mut characters = quoted.char_indices();
            let mut end = quoted.len();
            while let Some((at, character)) = characters.next() {
                match character {
                    '\\' => value.extend(characters.next().map(|(_, character)| character)),
                    '"' => {
                        end = at + 1;
                        break;
                    }
                    _ => value.push(character),
                }
            }
            rest = &quoted[end..];
        } else {
            let end = after.find(',').unwrap_or(after.len());
            value.push_str(after[..end].trim());
            rest = &after[end..];
        }
        found.push((key, value));
        rest = rest.trim_start().trim_start_matches(',').trim_start();
    }
    found
}

/// What a token server answers.
#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<Zeroizing<String>>,
    access_token: Option<Zeroizing<String>>,
}

/// The token in a token server's answer.
pub(super) fn token_of(body: &[u8], realm: &str) -> Result<Zeroizing<String>> {
    let refuse = |why: &str| Error::new(Status::Registry, format!("token server {}: {why}", quoted(realm.as_bytes())));
    // What the answer was is never said: it may hold a token.
    let answer: TokenAnswer = serde_json::from_slice(body).map_err(|_| refuse("its answer is no token"))?;
    let token = answer.token.filter(|token| !token.is_empty()).or(answer.access_token);
    let token = token.filter(|token| !token.is_empty()).ok_or_else(|| refuse("its answer has no token"))?;
    if token.bytes().all(|b| b.is_ascii_graphic()) { Ok(token) } else { Err(refuse("its token is not one")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.to_owned(),
                service: service.map(str::to_owned),
                scope: scope.map(str::to_owned),
            })
        };
        for (headers, expected) in [
            (&["Basic realm=\"x\""][..], Some(Challenge::Basic)),
            (&["basic"], Some(Challenge::Basic)),
            (
                &["Bearer realm=\"https://a/t\",service=\"s\",scope=\"repository:x:pull,push\""],
                bearer("https://a/t", Some("s"), Some("repository:x:pull,push")),
            ),
            (&["bearer  realm=https://a/t , service = s"], bearer("https://a/t", Some("s"), None)),
            (&["Bearer realm=\"a\\\"b\""], bearer("a\"b", None, None)),
            (&["Bearer realm=\"unfinished"], bearer("unfinished", None, None)),
            (&["Basic realm=\"x\"", "Bearer realm=\"r\""], bearer("r", None, None)),
            (&["Basic realm=\"x, Bearer\", Bearer realm=\"r\",service=\"s\", Other"], bearer("r", Some("s"), None)),
            (&["Bearer service=\"s\""], None),
            (&["Negotiate", ""], None),
        ] {
            assert_eq!(Challenge::parse(headers.iter().copied()), expected, "{headers:?}");
        }
    }

    #[test]
    fn tokens() {
        assert_eq!(token_of(br#"{"token":"a"}"#, "r").unwrap().as_str(), "a");
        assert_eq!(token_of(br#"{"access_token":"b","token":""}"#, "r").unwrap().as_str(), "b");
        for answer in ["", "[]", "{}", r#"{"token":""}"#, r#"{"token":"a\nb"}"#, r#"{"token":1}"#] {
            let error = token_of(answer.as_bytes(), "r").expect_err(answer);
            assert_eq!(error.status(), Status::Registry);
        }
    }
}
