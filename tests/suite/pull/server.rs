//! A registry that does what it is told, on loopback: it answers, is silent, breaks off, lies, and notes what it was
//! asked. HTTP/1.1 by hand, because no server library would send what it sends.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request, as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// With the query.
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The range that was asked for: where it begins, and where it ends if it says.
    pub fn range(&self) -> (usize, Option<usize>) {
        let range = self.header("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
        let number = |text: &str| (!text.is_empty()).then(|| text.parse::<usize>().unwrap());
        range.map_or((0, None), |(start, end)| (number(start).unwrap(), number(end).map(|end| end + 1)))
    }

    pub fn range_start(&self) -> usize {
        self.range().0
    }
}

/// What is answered.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    pub ending: Ending,
}

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Whole,
    /// The connection is closed after so many bytes of the body.
    CutAt(usize),
    /// Nothing more comes after so many bytes of the body.
    SilentAt(usize),
    /// The body is sent again and again, without an end.
    Endless,
    /// What comes is no HTTP.
    Garbage,
    /// The connection is reset after so many bytes of the body.
    ResetAt(usize),
    /// A byte of the body comes every 20 ms.
    Trickling,
    /// 64 KiB of the body come every 20 ms: 3 MB/s.
    Slow,
}

impl Answer {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Answer {
        Answer { status, headers: Vec::new(), body: body.into(), ending: Ending::Whole }
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Answer {
        self.headers.push((name, value.into()));
        self
    }

    pub fn without(mut self, name: &str) -> Answer {
        self.headers.retain(|(header, _)| *header != name);
        self
    }

    pub fn replaced(self, name: &'static str, value: &str) -> Answer {
        self.without(name).header(name, value)
    }

    pub fn ending(self, ending: Ending) -> Answer {
        Answer { ending, ..self }
    }
}

trait Connection: std::io::Read + std::io::Write {}
impl<T: std::io::Read + std::io::Write> Connection for T {}

type Script = dyn Fn(&Asked, usize) -> Answer + Send + Sync;

pub struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    is_over: Arc<AtomicBool>,
}

impl Server {
    /// `script` is given each request and how many came for the same path before.
    pub fn new(script: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static) -> Server {
        Server::start(None, script)
    }

    /// The same over TLS.
    pub fn with_tls(
        tls: rustls::ServerConfig,
        script: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static,
    ) -> Server {
        Server::start(Some(Arc::new(tls)), script)
    }

    fn start(
        tls: Option<Arc<rustls::ServerConfig>>,
        script: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server { address: listener.local_addr().unwrap(), asked: Arc::default(), is_over: Arc::default() };
        let (asked, is_over, script): (_, _, Arc<Script>) =
            (server.asked.clone(), server.is_over.clone(), Arc::new(script));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let (asked, is_over, script) = (asked.clone(), is_over.clone(), script.clone());
                let tls = tls.clone();
                std::thread::spawn(move || {
                    let stream = stream.unwrap();
                    let connection: Box<dyn Connection> = match tls {
                        None => Box::new(stream.try_clone().unwrap()),
                        Some(tls) => {
                            let session = rustls::ServerConnection::new(tls).unwrap();
                            Box::new(rustls::StreamOwned::new(session, stream.try_clone().unwrap()))
                        }
                    };
                    // The client may go away at any time.
                    let _ = serve(connection, &stream, &asked, &is_over, &*script);
                });
            }
        });
        server
    }

    /// The registry as in a reference.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How many requests had this in their path.
    pub fn count(&self, part: &str) -> usize {
        self.asked().iter().filter(|asked| asked.path.contains(part)).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // Wakes the listener.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(
    connection: Box<dyn Connection>,
    stream: &TcpStream,
    asked: &Mutex<Vec<Asked>>,
    is_over: &AtomicBool,
    script: &Script,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(connection);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = Vec::new();
        (&mut reader).take(length).read_to_end(&mut body)?;
        let request = Asked { path, headers, body };
        let before = {
            let mut asked = asked.lock().unwrap();
            asked.push(request.clone());
            asked.iter().filter(|other| other.path == request.path).count() - 1
        };
        let answer = script(&request, before);
        let out = reader.get_mut();
        if answer.ending == Ending::Garbage {
            out.write_all(b"\x16\x03\x01 this is no HTTP\r\n\r\n")?;
            return Ok(());
        }
        let mut head = format!("HTTP/1.1 {} X\r\n", answer.status);
        for (name, value) in &answer.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if answer.ending == Ending::Endless {
            head.push_str("transfer-encoding: chunked\r\n");
        } else if !answer.headers.iter().any(|(name, _)| *name == "content-length") {
            head.push_str(&format!("content-length: {}\r\n", answer.body.len()));
        }
        out.write_all(format!("{head}\r\n").as_bytes())?;
        match answer.ending {
            Ending::CutAt(at) => {
                out.write_all(&answer.body[..at.min(answer.body.len())])?;
                return Ok(());
            }
            Ending::ResetAt(at) => {
                out.write_all(&answer.body[..at.min(answer.body.len())])?;
                out.flush()?;
                // What is unread, and closing without waiting, make it a reset.
                let now = libc::linger { l_onoff: 1, l_linger: 0 };
                let length = size_of::<libc::linger>() as libc::socklen_t;
                let fd = std::os::fd::AsRawFd::as_raw_fd(stream);
                unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, (&raw const now).cast(), length) };
                return Ok(());
            }
            Ending::Trickling | Ending::Slow => {
                for byte in answer.body.chunks(if answer.ending == Ending::Slow { 64 << 10 } else { 1 }) {
                    out.write_all(byte)?;
                    out.flush()?;
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            Ending::SilentAt(at) => {
                out.write_all(&answer.body[..at.min(answer.body.len())])?;
                out.flush()?;
                while !is_over.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(20));
                }
                return Ok(());
            }
            Ending::Endless => loop {
                write!(out, "{:x}\r\n", answer.body.len())?;
                out.write_all(&answer.body)?;
                out.write_all(b"\r\n")?;
            },
            _ => out.write_all(&answer.body)?,
        }
        out.flush()?;
    }
}
