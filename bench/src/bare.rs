//! The floor, for whoever has nothing else to compare with: frames over tokio's sockets and nothing above them. There are no
//! ids, so a connection has one request at a time, and no events.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Mutex;

use crate::args::ServerArgs;
use crate::client::Stack;
use crate::process::ready;
use crate::work::{self, EventSink};
use crate::{Error, Result};

/// What a read has room for.
const READ_BYTES: usize = 64 << 10;

/// Bytes of a frame's length.
const LENGTH_BYTES: usize = 4;

/// The first byte of a request.
const LOOKUP: u8 = 1;
const BLOCK: u8 = 2;

/// A stream of frames: `len u32 | len bytes`.
pub(crate) struct Frames {
    stream: UnixStream,
    unread: BytesMut,
}

impl Frames {
    fn new(stream: UnixStream) -> Frames {
        Frames { stream, unread: BytesMut::with_capacity(READ_BYTES) }
    }

    /// The next frame if it is there already.
    fn buffered(&mut self) -> Option<Bytes> {
        let length = u32::from_le_bytes(*self.unread.first_chunk()?) as usize;
        if self.unread.len() < LENGTH_BYTES + length {
            self.unread.reserve(LENGTH_BYTES + length - self.unread.len());
            return None;
        }
        self.unread.advance(LENGTH_BYTES);
        Some(self.unread.split_to(length).freeze())
    }

    /// One read.
    async fn read(&mut self) -> io::Result<()> {
        if self.unread.capacity() == self.unread.len() {
            self.unread.reserve(READ_BYTES);
        }
        match self.stream.read_buf(&mut self.unread).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn next(&mut self) -> io::Result<Bytes> {
        loop {
            if let Some(frame) = self.buffered() {
                return Ok(frame);
            }
            self.read().await?;
        }
    }

    async fn ask(&mut self, what: u8, n: u64) -> io::Result<Bytes> {
        let mut request = [0; LENGTH_BYTES + 41];
        let mut to = &mut request[..];
        to.put_u32_le(41);
        to.put_u8(what);
        to.put_slice(&work::hash(n));
        to.put_u64_le(n);
        self.stream.write_all(&request).await?;
        self.next().await
    }
}

/// Serves until the process ends.
pub(crate) async fn serve(args: &ServerArgs) -> Result<()> {
    let listener = UnixListener::bind(&args.socket)?;
    let block = work::block();
    ready()?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(answer(Frames::new(stream), block.clone()));
    }
}

async fn answer(mut frames: Frames, block: Bytes) -> Result<()> {
    let mut answers = BytesMut::new();
    loop {
        while let Some(request) = frames.buffered() {
            let hash = request.get(1..).and_then(|rest| rest.first_chunk::<32>());
            match (request.first(), hash) {
                (Some(&LOOKUP), Some(hash)) => {
                    answers.put_u32_le(work::HEADER_BYTES as u32);
                    answers.put_slice(&work::header(hash));
                }
                (Some(&BLOCK), Some(_)) => {
                    answers.put_u32_le(work::BLOCK_BYTES as u32);
                    let mut whole = answers.split().chain(block.clone());
                    frames.stream.write_all_buf(&mut whole).await?;
                }
                _ => return Err("this is no request".into()),
            }
        }
        if !answers.is_empty() {
            frames.stream.write_all(&answers).await?;
            answers.clear();
        }
        frames.read().await?;
    }
}

pub(crate) struct Bare;

impl Stack for Bare {
    type Connection = Arc<Mutex<Frames>>;

    const ONE_BY_ONE: Option<&'static str> = Some("the bare echo has one request at a time and no events");

    async fn connect(socket: &Path, _: usize) -> Result<Self::Connection> {
        Ok(Arc::new(Mutex::new(Frames::new(UnixStream::connect(socket).await?))))
    }

    async fn lookup(connection: &Self::Connection, n: u64) -> Result<()> {
        let header = connection.lock().await.ask(LOOKUP, n).await?;
        Ok(work::check_header(n, &header)?)
    }

    async fn block(connection: &Self::Connection, n: u64) -> Result<()> {
        let block = connection.lock().await.ask(BLOCK, n).await?;
        Ok(work::check_block(&block)?)
    }

    async fn subscribe(_: PathBuf, _: usize, _: EventSink) -> Error {
        "the bare echo has no events".into()
    }
}
