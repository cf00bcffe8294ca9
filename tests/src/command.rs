//! Running a command to its end, or until its time is up.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// What a command did.
#[derive(Clone, Debug, Default)]
pub struct Finished {
    pub command: String,
    /// `None` when it was killed.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    pub fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    /// The output of a command that must succeed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.succeeded(), "{self}");
        self.stdout
    }

    /// The error text of a command that must fail.
    #[track_caller]
    pub fn refused(self) -> String {
        assert!(!self.succeeded(), "succeeded: {self}");
        self.stderr
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let code = self.code.map_or("killed after its time".to_owned(), |code| {
            format!("exit code {code}")
        });
        write!(
            f,
            "`{}`: {code}\nstdout: {}\nstderr: {}",
            self.command,
            self.stdout.trim(),
            self.stderr.trim()
        )
    }
}

/// Runs `command` with `stdin` as its input, and kills it after `limit`.
#[track_caller]
pub fn run(command: &mut Command, stdin: &str, limit: Duration) -> Finished {
    let text = text_of(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("start `{text}`: {error}"));
    let mut input = child.stdin.take().expect("stdin is piped");
    let stdin = stdin.to_owned();
    // A command that ends without reading its input is its own business.
    thread::spawn(move || drop(input.write_all(stdin.as_bytes())));
    let stdout = collect(child.stdout.take().expect("stdout is piped"));
    let stderr = collect(child.stderr.take().expect("stderr is piped"));
    let pid = child.id();
    let (done, ended) = mpsc::channel();
    let waiter = thread::spawn(move || {
        let status = child.wait();
        // The receiver is gone when the time was up.
        let _ = done.send(());
        status
    });
    let in_time = ended.recv_timeout(limit).is_ok();
    if !in_time {
        kill(pid);
    }
    let status = waiter
        .join()
        .expect("the waiting thread does not panic")
        .expect("wait for a child of ours");
    let finish =
        |reader: thread::JoinHandle<String>| reader.join().expect("the reading thread does not panic");
    Finished {
        command: text,
        code: status.code().filter(|_| in_time),
        stdout: finish(stdout),
        stderr: finish(stderr),
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before a broken pipe still counts.
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

pub fn kill(pid: u32) {
    // SAFETY: kill has no memory preconditions; the process is a child of ours that was not waited for.
    unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) };
}

/// Sends a signal, by the name that kill(1) knows it by.
#[track_caller]
pub fn signal(pid: u32, name: &str) {
    let mut kill = Command::new("kill");
    run(
        kill.args(["-s", name, &pid.to_string()]),
        "",
        Duration::from_secs(5),
    )
    .ok();
}

fn text_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// A command that runs beside the test until it is dropped, with its output line by line.
pub struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
    text: String,
    seen: Vec<String>,
}

impl Running {
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let text = text_of(command);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("start `{text}`: {error}"));
        let (sender, lines) = mpsc::channel();
        forward(child.stdout.take().expect("stdout is piped"), sender.clone());
        forward(child.stderr.take().expect("stderr is piped"), sender);
        Running {
            child,
            lines,
            text,
            seen: Vec::new(),
        }
    }

    /// The first line from now on that `wanted` accepts.
    #[track_caller]
    pub fn line(&mut self, limit: Duration, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = std::time::Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!(
                    "`{}`: no such line within {limit:?}; it said {:?}",
                    self.text, self.seen
                );
            };
            self.seen.push(line.clone());
            if wanted(&line) {
                return line;
            }
        }
    }
}

fn forward(pipe: impl Read + Send + 'static, lines: mpsc::Sender<String>) {
    use std::io::BufRead;
    thread::spawn(move || {
        for line in std::io::BufReader::new(pipe).lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                return;
            }
        }
    });
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
