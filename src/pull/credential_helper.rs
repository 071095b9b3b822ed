//! Credentials from helper programs (docker-credential-helpers): one line on its standard input, JSON on its standard output.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;
use zeroize::Zeroizing;

use super::credentials::Credentials;
use crate::error::{Error, Result, Status, quoted};
use crate::interrupt::Interrupt;
use crate::sys;

const MAX_ANSWER_BYTES: u64 = 64 << 10;
/// What a file may be called.
const MAX_NAME_BYTES: usize = 255;
const MAX_TIME: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(2);

#[derive(Deserialize)]
struct HelperAnswer {
    #[serde(rename = "Username")]
    user: String,
    #[serde(rename = "Secret")]
    secret: Zeroizing<String>,
}

/// Asks a helper program for the credentials of an address, on a thread of ours. One that closes
/// its input early is not to end the host by a SIGPIPE. `None` where it has nothing for the
/// address.
pub(super) fn ask(helper: &str, address: &str, interrupt: &Interrupt) -> Result<Option<Credentials>> {
    // A file's name and no path: `desktop.exe` is what WSL has.
    let is_name = !matches!(helper, "" | "." | "..") && helper.len() <= MAX_NAME_BYTES && !helper.contains(['/', '\0']);
    if !is_name {
        let why = format!("credential helper {} is not the name of one", quoted(helper.as_bytes()));
        return Err(Error::new(Status::Malformed, why));
    }
    let program = format!("docker-credential-{helper}");
    let (address, interrupt) = (address.to_owned(), interrupt.clone());
    let thread = sys::spawn("bl-helper", move || {
        let mut child = start(&program)?;
        if let Some(mut input) = child.stdin.take() {
            // One that does not want to know has its reasons; its answer tells.
            let _ = input.write_all(address.as_bytes());
        }
        let (status, answer) = answer_of(&program, &mut child, &interrupt)?;
        parse(&program, status, &answer)
    });
    match thread.map_err(|cause| Error::io(&cause, "start a thread"))?.join() {
        Ok(result) => result,
        Err(_) => Err(Error::new(Status::Internal, "the thread of a credential helper died")),
    }
}

fn failed(program: &str, cause: &std::io::Error) -> Error {
    Error::io(cause, format_args!("run {program}"))
}

fn start(program: &str) -> Result<Child> {
    let mut command = Command::new(program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().map_err(|cause| match cause.kind() {
        std::io::ErrorKind::NotFound => {
            Error::new(Status::Unauthorized, format!("{program} is not installed, or not in PATH"))
        }
        _ => failed(program, &cause),
    })
}

/// What it wrote, and how it ended, where the system says so. It is killed when its time is over, or the call's.
fn answer_of(
    program: &str,
    child: &mut Child,
    interrupt: &Interrupt,
) -> Result<(Option<ExitStatus>, Zeroizing<Vec<u8>>)> {
    let output = child.stdout.take();
    let reader = sys::spawn("bl-helper", move || {
        let mut answer = Zeroizing::new(Vec::new());
        let read = output.map(|output| output.take(MAX_ANSWER_BYTES + 1).read_to_end(&mut answer));
        read.transpose().map(|_| answer)
    });
    let reader = reader.map_err(|cause| failed(program, &cause))?;
    let deadline = Instant::now() + MAX_TIME;
    // A host that ignores its children's ends never hears of this one's; a grandchild may hold the pipe for longer.
    let (mut status, mut is_over) = (None, false);
    while !is_over || !reader.is_finished() {
        match child.try_wait() {
            Ok(Some(end)) => (status, is_over) = (Some(end), true),
            Err(_) => is_over = true,
            Ok(None) => {}
        }
        let late = || Error::new(Status::Timeout, format!("{program}: no answer in {MAX_TIME:?}"));
        let ended = interrupt.check().and_then(|()| if Instant::now() < deadline { Ok(()) } else { Err(late()) });
        if let Err(error) = ended {
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    match reader.join() {
        Ok(answer) => Ok((status, answer.map_err(|cause| failed(program, &cause))?)),
        Err(_) => Err(Error::new(Status::Internal, format!("{program}: its reader died"))),
    }
}

fn parse(program: &str, status: Option<ExitStatus>, answer: &[u8]) -> Result<Option<Credentials>> {
    if answer.len() as u64 > MAX_ANSWER_BYTES {
        return Err(Error::limit("credential helper answer", MAX_ANSWER_BYTES, answer.len(), program));
    }
    if let Some(status) = status.filter(|status| !status.success()) {
        let text = String::from_utf8_lossy(answer).to_lowercase();
        return if text.contains("credentials not found") {
            Ok(None)
        } else {
            // What it says may hold a secret.
            Err(Error::new(Status::Unauthorized, format!("{program}: failed ({status})")))
        };
    }
    let answer: HelperAnswer = serde_json::from_slice(answer)
        .map_err(|_| Error::new(Status::Malformed, format!("{program}: its answer is no credentials in JSON")))?;
    Ok(Some(Credentials::new(answer.user, answer.secret.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_is_a_name_and_nothing_else() {
        let long = "x".repeat(256);
        for name in ["", "../x", ".", "..", "a/b", "/bin/sh", "a\0b", &long] {
            assert_eq!(ask(name, "r.io", &Interrupt::default()).expect_err(name).status(), Status::Malformed, "{name}");
        }
        for name in ["no-such-helper-here", "desktop.exe", "My_Helper.v2", "a b", "$(x)", "a;b", &long[..200]] {
            let missing = ask(name, "r.io", &Interrupt::default()).expect_err(name);
            assert_eq!(missing.status(), Status::Unauthorized, "{name}: {missing}");
        }
    }
}
