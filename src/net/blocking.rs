//! A [`Stream`] for callers that may wait: each call waits until it has done something, at most as long as it was told.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use super::{Endpoint, Stream, TlsFailure};

/// Pause before a UNIX socket whose queue is full is dialled again: the system does not tell when there is room.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(10);

/// See the [module](self).
#[derive(Debug)]
pub struct BlockingStream {
    stream: Stream,
    poll: Poll,
    events: Events,
    patience: Duration,
}

impl BlockingStream {
    /// Connects. The addresses are tried in turn; each, and each call later on, may take as long as `patience` (above zero).
    ///
    /// # Errors
    /// Why the last address did not take the connection.
    pub fn connect(endpoint: &Endpoint, patience: Duration) -> io::Result<BlockingStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for dial in 0..endpoint.addresses() {
            match BlockingStream::dial(endpoint, dial, patience) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn dial(endpoint: &Endpoint, dial: usize, patience: Duration) -> io::Result<BlockingStream> {
        let until = Instant::now() + patience;
        let mut stream = loop {
            match Stream::connect(endpoint, dial) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < until => {
                    std::thread::sleep(FULL_QUEUE_PAUSE);
                }
                outcome => break outcome?,
            }
        };
        let poll = Poll::new()?;
        poll.registry().register(&mut stream, Token(0), Interest::READABLE | Interest::WRITABLE)?;
        let mut stream = BlockingStream { stream, poll, events: Events::with_capacity(1), patience };
        while !stream.events.iter().any(|event| event.is_writable() || event.is_error()) {
            if !stream.wait(until)? {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "connection timed out"));
            }
        }
        if let Some(error) = stream.stream.take_error()? {
            return Err(error);
        }
        match stream.retry_until(until, Stream::handshake) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(TlsFailure::Silent.into()),
            Err(error) => Err(error),
            Ok(()) => Ok(stream),
        }
    }

    /// Waits for an event of the socket; false if there is none by then.
    fn wait(&mut self, until: Instant) -> io::Result<bool> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.poll.poll(&mut self.events, Some(left)) {
                Ok(()) => return Ok(!self.events.is_empty()),
                // A signal, such as a profile of the process sends, is not for us.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn retry<T>(&mut self, step: impl FnMut(&mut Stream) -> io::Result<T>) -> io::Result<T> {
        self.retry_until(Instant::now() + self.patience, step)
    }

    fn retry_until<T>(
        &mut self,
        until: Instant,
        mut step: impl FnMut(&mut Stream) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            match step(&mut self.stream) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !self.wait(until)? {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                outcome => return outcome,
            }
        }
    }
}

impl Read for BlockingStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.retry(|stream| stream.read(buffer))
    }
}

impl Write for BlockingStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.retry(|stream| stream.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);
    const BRIEF: Duration = Duration::from_millis(20);

    #[test]
    fn what_is_written_is_read_at_the_other_end_of_either_kind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let (tcp, unix) = (TcpListener::bind("127.0.0.1:0").unwrap(), UnixListener::bind(&path).unwrap());
        let tcp_endpoint = Endpoint::Tcp(vec![tcp.local_addr().unwrap()]);
        let exchange = |endpoint: &Endpoint, accept: &dyn Fn() -> Box<dyn ReadWrite>| {
            let mut near = BlockingStream::connect(endpoint, PATIENCE).unwrap();
            let mut far = accept();
            let echo = std::thread::spawn(move || {
                let mut bytes = [0; 4];
                far.read_exact(&mut bytes).unwrap();
                // The other end waits by now, or will.
                far.write_all(&bytes).unwrap();
            });
            near.write_all(b"ping").unwrap();
            let mut bytes = Vec::new();
            near.read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes, b"ping");
            echo.join().unwrap();
        };
        exchange(&tcp_endpoint, &|| Box::new(tcp.accept().unwrap().0));
        exchange(&Endpoint::Unix(path), &|| Box::new(unix.accept().unwrap().0));
    }

    trait ReadWrite: Read + Write + Send {}
    impl<S: Read + Write + Send> ReadWrite for S {}

    #[test]
    fn silence_is_an_error_once_the_time_is_over() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Endpoint::Tcp(vec![listener.local_addr().unwrap()]);
        let mut near = BlockingStream::connect(&endpoint, BRIEF).unwrap();
        let error = near.read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        // Nobody reads, so that the socket is full in the end.
        let error = near.write_all(&vec![0; 64 << 20]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn the_next_address_is_tried_if_one_refuses() {
        let alive = TcpListener::bind("127.0.0.1:0").unwrap();
        // Nobody listens on a socket that is bound alone, and nobody else can.
        let dead = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        dead.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let refuses = dead.local_addr().unwrap().as_socket().unwrap();
        let both = Endpoint::Tcp(vec![refuses, alive.local_addr().unwrap()]);
        assert!(BlockingStream::connect(&both, PATIENCE).is_ok());
        let error = BlockingStream::connect(&Endpoint::Tcp(vec![refuses]), PATIENCE).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let nobody = Endpoint::Unix("/nowhere/nobody.sock".into());
        assert_eq!(BlockingStream::connect(&nobody, PATIENCE).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
