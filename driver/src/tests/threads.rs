//! Real threads on both ends, through everything at once.

use std::thread;

use modipc_core::{Body, CloseReason, Config};

use super::kit::{Ends, Pipe, Recorder, SECOND, Seen, ToyRuntime, active, options};
use crate::sync::{Arc, block_on};
use crate::{BlockingLink, Link};

#[test]
fn threads_that_block_get_their_own_answers() {
    let (module, host) = active(Config::DEFAULT);
    let (up, down) = (Pipe::new(300), Pipe::new(300));
    let runtime = Arc::new(ToyRuntime::default());
    let service = || Recorder { seen: Seen::default(), echo: true };
    let up_end = Ends { read: down.clone(), write: up.clone() };
    let (link, task) = Link::new(Arc::clone(&runtime) as _, up_end, module, service());
    let (host_link, host_task) = Link::new(runtime, Ends { read: up, write: down }, host, service());
    let tasks = [thread::spawn(|| block_on(task)), thread::spawn(|| block_on(host_task))];
    let callers = (0..4u32).map(|caller| {
        let (link, host_link) = (BlockingLink::new(link.clone()), BlockingLink::new(host_link.clone()));
        thread::spawn(move || {
            for i in 0..500u32 {
                let body = [caller.to_le_bytes(), i.to_le_bytes()].concat().repeat(1 + i as usize % 40);
                let body = Body::from(&body[..]);
                // One in four calls goes the other way.
                let answer = match caller {
                    0 => host_link.call(&options(SECOND), body.clone()),
                    _ => link.call(&options(SECOND), body.clone()),
                };
                assert_eq!(answer.unwrap(), body.head);
            }
        })
    });
    let callers: Vec<_> = callers.collect();
    callers.into_iter().for_each(|caller| caller.join().unwrap());
    let stats = (link.stats(), host_link.stats());
    assert_eq!((stats.0.replies, stats.1.replies), (1500, 500));
    assert_eq!((stats.0.bytes_in, stats.0.bytes_out), (stats.1.bytes_out, stats.1.bytes_in));
    link.with(|connection, now| connection.abort(now));
    let [task, host_task] = tasks.map(|task| task.join().unwrap());
    assert_eq!((task, host_task), (CloseReason::Aborted, CloseReason::PeerGone));
    assert_eq!(BlockingLink::new(host_link).wait_closed(), CloseReason::PeerGone);
}
