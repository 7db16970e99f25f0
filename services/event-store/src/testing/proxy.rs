//! A line to Redis that breaks when told: for tests of what a client does when an answer is lost, late or cut
//! in pieces. It knows where commands and replies begin and end, and never changes a byte of them.

use std::collections::VecDeque;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// How the line behaves, for all connections, from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Line {
    /// Passes everything on.
    Good,
    /// Closes every new connection at once; open ones stay (see [`Proxy::cut`]).
    Refusing,
    /// Answers every new connection as a web server would; open ones stay. What an address leads to can be
    /// another program for a while.
    Foreign,
    /// Keeps connections open and passes nothing on, as a server that hangs. What it holds back is passed
    /// on when the line is good again.
    Stalled,
    /// Holds what arrives back for so long, in each direction, before it reads on.
    Late(Duration),
    /// Hands every byte on in a packet of its own.
    ByteByByte,
}

/// What is lost of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lost {
    /// It never reaches the server.
    Command,
    /// It reaches the server and is carried out; the reply never comes.
    Reply,
}

#[derive(Debug)]
struct Loss {
    what: Lost,
    named: String,
    passing: usize,
}

#[derive(Debug)]
struct Shared {
    upstream: u16,
    line: watch::Sender<Line>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    losses: Vec<Loss>,
    lost: usize,
    /// Ends all connections that are open now.
    cut: CancellationToken,
    /// Lets all connections that are open now pass nothing on any more.
    silence: CancellationToken,
}

/// A TCP proxy on loopback in front of one server. It ends with its value, and its connections with it.
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// use event_store::testing::{Line, Lost, Proxy, Redis};
/// let redis = Redis::start();
/// let proxy = Proxy::start(redis.port()).await?;
/// // … connect a store to `proxy.url()` …
/// proxy.lose(Lost::Reply, "append", 1); // the next append is carried out, its caller never hears of it
/// proxy.set(Line::Stalled); // everything hangs
/// proxy.set(Line::Good);
/// proxy.cut(); // every connection ends now
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    _accepting: AbortOnDropHandle<()>,
}

impl Proxy {
    /// Listens on a free port of loopback and passes on to `upstream`, a port of loopback too.
    pub async fn start(upstream: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let shared =
            Arc::new(Shared { upstream, line: watch::Sender::new(Line::Good), state: Mutex::default() });
        let accepting = AbortOnDropHandle::new(tokio::spawn(accept(listener, shared.clone())));
        Ok(Self { port, shared, _accepting: accepting })
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its URL for a Redis client.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Changes how the line behaves.
    pub fn set(&self, line: Line) {
        self.shared.line.send_replace(line);
    }

    /// Ends every open connection, at both ends.
    pub fn cut(&self) {
        std::mem::take(&mut self.shared.state().cut).cancel();
    }

    /// Every open connection stays open and passes nothing on any more, as when a router between has forgotten it.
    /// New ones behave as the line says.
    pub fn silence(&self) {
        std::mem::take(&mut self.shared.state().silence).cancel();
    }

    /// Loses the `nth` (from 1) command from now on whose name or first argument contains `named`
    /// (whatever its case: `append` finds `FCALL eventstore_1f0c_append`; the empty text finds every
    /// command), and then cuts its connection: what was sent before it on that connection is answered,
    /// what was sent after it is not. May be called several times; each loses one command.
    pub fn lose(&self, what: Lost, named: &str, nth: usize) {
        let loss = Loss { what, named: named.to_lowercase(), passing: nth.saturating_sub(1) };
        self.shared.state().losses.push(loss);
    }

    /// How many commands were lost so far.
    #[must_use]
    pub fn lost(&self) -> usize {
        self.shared.state().lost
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be lost of this command.
    fn fate(&self, command: &[u8]) -> Option<Lost> {
        let name = name(command).to_lowercase();
        let mut state = self.state();
        let mut hit = None;
        for (i, loss) in state.losses.iter_mut().enumerate().filter(|(_, l)| name.contains(&l.named)) {
            match loss.passing.checked_sub(1) {
                Some(left) => loss.passing = left,
                None => hit = hit.or(Some(i)),
            }
        }
        hit.map(|i| state.losses.remove(i).what)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // A failed accept ends the proxy: the test then fails with a refused connection.
    while let Ok((client, _)) = listener.accept().await {
        // In this order: a connection that is not cut is one of the line that was set before the cut.
        let (cut, silence) = {
            let state = shared.state();
            (state.cut.clone(), state.silence.clone())
        };
        let line = *shared.line.borrow();
        if line == Line::Refusing {
            continue;
        }
        let shared = shared.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = cut.cancelled() => {}
                // A line that ends for whatever reason is the client's matter: it sees the end.
                _ = async {
                    if line == Line::Foreign { foreign(client).await } else { connection(client, &shared, &cut, &silence).await }
                } => {}
            }
        });
    }
}

/// Says what no server of Redis says, once asked.
async fn foreign(mut client: TcpStream) -> io::Result<()> {
    client.readable().await?;
    client.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await
}

/// Passes on until one end closes or a loss is due; dropping the sockets cuts both ends.
async fn connection(
    client: TcpStream,
    shared: &Shared,
    cut: &CancellationToken,
    silence: &CancellationToken,
) -> io::Result<()> {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, shared.upstream)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // One for each command on its way: is its reply to be lost?
    let fates = Mutex::new(VecDeque::new());
    let fates = || fates.lock().unwrap_or_else(PoisonError::into_inner);
    tokio::select! {
        end = pump(from_client, to_server, shared, (cut, silence), |command| match shared.fate(command) {
            Some(Lost::Command) => Pass::Never,
            fate => {
                fates().push_back(fate.is_some());
                Pass::On
            }
        }) => end,
        end = pump(from_server, to_client, shared, (cut, silence), |reply| {
            let is_answer = reply.first() != Some(&b'>');
            if is_answer && fates().pop_front() == Some(true) { Pass::Never } else { Pass::On }
        }) => end,
    }
}

enum Pass {
    On,
    /// Ends the connection instead.
    Never,
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
    (cut, silence): (&CancellationToken, &CancellationToken),
    judge: impl Fn(&[u8]) -> Pass,
) -> io::Result<()> {
    let mut line = shared.line.subscribe();
    let mut held = Vec::new();
    loop {
        if from.read_buf(&mut held).await? == 0 {
            return Ok(());
        }
        let now = *line.borrow_and_update();
        if let Line::Late(by) = now {
            tokio::time::sleep(by).await;
        }
        // Ends with an error only when the proxy is gone.
        let _ = line.wait_for(|line| *line != Line::Stalled).await;
        if silence.is_cancelled() {
            // Until the connection is cut, or its client gives it up.
            held.clear();
            continue;
        }
        let mut passed = 0;
        while let Some(length) = frame(&held[passed..]) {
            let message = &held[passed..passed + length];
            // What was sent after the cut passes never, however late this task learns of it.
            if cut.is_cancelled() {
                return Ok(());
            }
            if let Pass::Never = judge(message) {
                shared.state().lost += 1;
                return Ok(());
            }
            if *line.borrow() == Line::ByteByByte {
                for byte in message {
                    to.write_all(std::slice::from_ref(byte)).await?;
                    tokio::task::yield_now().await;
                }
            } else {
                to.write_all(message).await?;
            }
            passed += length;
        }
        held.drain(..passed);
    }
}

/// The length of the first whole message of RESP (2 or 3) in these bytes; `None` when it goes on.
fn frame(bytes: &[u8]) -> Option<usize> {
    let (mut at, mut open) = (0, 1_u64);
    while open > 0 {
        let rest = &bytes[at..];
        let end = rest.windows(2).position(|w| w == b"\r\n")? + 2;
        let number = rest.get(1..end - 2).and_then(|n| std::str::from_utf8(n).ok()?.parse::<u64>().ok());
        at += end;
        open -= 1;
        match (rest[0], number) {
            (b'$' | b'=' | b'!', Some(length)) => at += usize::try_from(length).ok()? + 2,
            (b'*' | b'~' | b'>', Some(items)) => open += items,
            (b'%', Some(pairs)) => open += 2 * pairs,
            // The attribute itself and what it belongs to.
            (b'|', Some(pairs)) => open += 2 * pairs + 1,
            // A line: a simple string, a number, a null, an inline command.
            _ => {}
        }
        if at > bytes.len() {
            return None;
        }
    }
    Some(at)
}

/// The first two words of a command, however it is sent.
fn name(command: &[u8]) -> String {
    let text = String::from_utf8_lossy(&command[..command.len().min(256)]);
    if !text.starts_with('*') {
        return text.into_owned();
    }
    // *2\r\n$4\r\nFCALL\r\n$9\r\n…: every other line is a word.
    text.split("\r\n").skip(2).step_by(2).take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_whole_wherever_they_are_cut() {
        for message in [
            &b"+OK\r\n"[..],
            b"$-1\r\n",
            b"$4\r\n\r\n\r\n\r\n",
            b"*2\r\n*1\r\n:1\r\n$0\r\n\r\n",
            b"%1\r\n+a\r\n*-1\r\n",
            b"|1\r\n+a\r\n+b\r\n:7\r\n",
            b"PING\r\n",
        ] {
            for cut in 0..message.len() {
                assert_eq!(frame(&message[..cut]), None, "{message:?} up to {cut}");
            }
            let two = [message, message].concat();
            assert_eq!(frame(&two), Some(message.len()), "{message:?}");
        }
    }

    #[test]
    fn a_command_is_known_by_its_first_two_words() {
        assert_eq!(name(b"*3\r\n$5\r\nFCALL\r\n$3\r\nx_y\r\n$1\r\n0\r\n"), "FCALL x_y");
        assert_eq!(name(b"*1\r\n$4\r\nPING\r\n"), "PING");
    }
}
