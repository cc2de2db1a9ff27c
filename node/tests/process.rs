//! Modules as real processes: what they inherit, what becomes of what they print, and how they end. The modules are shell
//! scripts: they do not speak the protocol.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Duration;

use modipc_core::CloseReason;
use modipc_node::{Exit, LaunchError, ModuleSpec, Node, NodeApi, NodeConfig, ProcessLauncher};
use modipc_transport_uds::{TokioRuntime, UdsTransport, socketpair_for_child};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

struct NoApi;
impl NodeApi for NoApi {}

/// All that is logged, by all tests of this file at once: each looks for its own module.
#[derive(Default)]
struct Notes {
    lines: Mutex<Vec<BTreeMap<String, String>>>,
    more: Condvar,
}

struct Fields(BTreeMap<String, String>);

impl tracing::field::Visit for Fields {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        write!(text, "{value:?}").unwrap();
        self.0.insert(field.name().to_owned(), text.trim_matches('"').to_owned());
    }
}

struct NotesLayer(Arc<Notes>);

impl<S: tracing::Subscriber> Layer<S> for NotesLayer {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields(BTreeMap::new());
        event.record(&mut fields);
        self.0.lines.lock().unwrap().push(fields.0);
        self.0.more.notify_all();
    }
}

impl Notes {
    fn global() -> Arc<Notes> {
        static NOTES: OnceLock<Arc<Notes>> = OnceLock::new();
        Arc::clone(NOTES.get_or_init(|| {
            let notes = Arc::new(Notes::default());
            let subscriber = tracing_subscriber::registry().with(NotesLayer(Arc::clone(&notes)));
            tracing::subscriber::set_global_default(subscriber).unwrap();
            notes
        }))
    }

    /// What a module printed, once `done` is content with it.
    fn printed(&self, module: &str, stream: &str, done: impl Fn(&[String]) -> bool) -> Vec<String> {
        let mut lines = self.lines.lock().unwrap();
        loop {
            let is = |line: &BTreeMap<String, String>, key, value| line.get(key).is_some_and(|v| v == value);
            let printed: Vec<_> = lines
                .iter()
                .filter(|line| is(line, "module", module) && is(line, "stream", stream))
                .filter_map(|line| line.get("message").cloned())
                .collect();
            if done(&printed) {
                return printed;
            }
            let (next, waited) = self.more.wait_timeout(lines, Duration::from_secs(60)).unwrap();
            assert!(!waited.timed_out(), "{module} printed {printed:?} and nothing more");
            lines = next;
        }
    }
}

struct World {
    tokio: tokio::runtime::Runtime,
    node: Node,
    notes: Arc<Notes>,
    runtime: TokioRuntime,
}

impl World {
    fn new() -> World {
        let notes = Notes::global();
        let tokio =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let runtime = TokioRuntime::new(tokio.handle().clone());
        let config = NodeConfig { logs_burst: 1_000_000, ..NodeConfig::default() };
        let node = Node::builder(Arc::new(runtime.clone()), Arc::new(NoApi)).config(config).build().unwrap();
        World { tokio, node, notes, runtime }
    }

    fn launch(&self, spec: &ModuleSpec) -> Result<modipc_node::RunningModule, LaunchError> {
        let runtime = self.runtime.clone();
        let pairs = move || {
            let (ours, theirs) = socketpair_for_child()?;
            Ok((UdsTransport::new(&runtime, ours)?, theirs))
        };
        self.tokio.block_on(self.node.launch(&ProcessLauncher::new(pairs), spec))
    }

    fn ended(&self, module: &modipc_node::RunningModule) -> modipc_node::Ended {
        self.tokio.block_on(module.ended())
    }
}

fn script(module_id: &str, script: &str) -> ModuleSpec {
    let args = ["-c".into(), script.into()].into();
    ModuleSpec { args, grace_us: 200_000, ..ModuleSpec::new(module_id, "/bin/sh") }
}

fn last_is(last: &str) -> impl Fn(&[String]) -> bool {
    let last = last.to_owned();
    move |lines| lines.last() == Some(&last)
}

/// Descriptors that this process got without close-on-exec from whoever started it: the launcher cannot keep them back, and
/// says so. Nothing that the process itself opened is among them.
fn inherited_by_the_host() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let fd = entry.file_name().into_string().unwrap();
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:\t")).unwrap_or("02000000");
        let is_close_on_exec = u32::from_str_radix(flags, 8).unwrap() & 0o2_000_000 != 0;
        if let (false, Ok(target)) = (is_close_on_exec, std::fs::read_link(entry.path())) {
            found.insert(fd, target.display().to_string());
        }
    }
    found
}

#[test]
fn a_module_inherits_its_connection_and_nothing_that_the_host_opened() {
    let inherited = inherited_by_the_host();
    // The host's own: an open file and a connected socket.
    let file = std::fs::File::open("/proc/self/status").unwrap();
    let sockets = std::os::unix::net::UnixStream::pair().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let world = World::new();
    let mut spec = script(
        "heir",
        "tr '\\0' '\\n' < /proc/self/environ; echo --; ls -l /proc/self/fd | sed 's/.* \\([0-9]*\\) -> /\\1 /'; \
         echo --; pwd; cat; echo end",
    );
    spec.data_dir = Some(dir.path().join("heir"));
    spec.config = BTreeMap::from([("depth".into(), "6 = six".into())]);
    let module = world.launch(&spec).unwrap();
    let printed = world.notes.printed("heir", "stdout", last_is("end"));
    assert_eq!(world.ended(&module).exit, Some(Exit::Code(0)));

    let mut parts = printed.split(|line| line == "--");
    let mut environment: Vec<_> = parts.next().unwrap().to_vec();
    // The shell's own, which it gives to what it starts.
    environment.retain(|line| !["PWD=", "SHLVL=", "_=", "OLDPWD="].iter().any(|own| line.starts_with(own)));
    environment.sort();
    let data_dir = dir.path().join("heir").canonicalize().unwrap();
    let fd = environment.iter().find_map(|line| line.strip_prefix("MODIPC_FD=")).unwrap().to_owned();
    let expected = [
        format!("DATA_DIR={}", dir.path().join("heir").display()),
        format!("MODIPC_FD={fd}"),
        "MODULE_CONFIG_DEPTH=6 = six".into(),
        "MODULE_ID=heir".into(),
        "MODULE_NAME=heir".into(),
    ];
    assert_eq!(environment, expected);

    let open: BTreeMap<_, _> = parts
        .next()
        .unwrap()
        .iter()
        .filter_map(|line| line.split_once(' '))
        // The directory that `ls` reads.
        .filter(|(_, target)| !target.ends_with("/fd"))
        .filter(|(fd, _)| fd.parse::<u32>().is_ok())
        .filter(|(fd, target)| {
            fd.parse::<u32>().unwrap() <= 2 || inherited.get(*fd).is_none_or(|known| known != target)
        })
        .collect();
    assert_eq!(open.len(), 4, "{open:?}");
    assert_eq!(open["0"], "/dev/null");
    assert!(open["1"].starts_with("pipe:") && open["2"].starts_with("pipe:"), "{open:?}");
    assert!(open[&*fd].starts_with("socket:"), "{open:?}");
    let rest = parts.next().unwrap();
    assert_eq!(rest, [data_dir.display().to_string(), "end".into()], "stdin is empty");
    drop((file, sockets));
}

#[test]
fn what_a_module_prints_is_drained_bounded_and_never_stops_it() {
    let world = World::new();
    // Far more than a pipe holds, first without a line break.
    let module = world
        .launch(&script(
            "printer",
            "head -c 1000000 /dev/zero | tr '\\0' x; echo; seq 20000; echo oops >&2; printf 'no break'",
        ))
        .unwrap();
    let printed = world.notes.printed("printer", "stdout", last_is("no break"));
    world.notes.printed("printer", "stderr", last_is("oops"));
    assert_eq!(world.ended(&module).exit, Some(Exit::Code(0)));
    assert_eq!(printed.len(), 1 + 20_000 + 1);
    assert!(printed[0].ends_with("x… (995904 bytes more)"), "{}", &printed[0][4000..]);
    assert_eq!(printed[20_000], "20000");
}

#[test]
fn the_way_it_ended_is_known_and_its_id_is_free_again() {
    let world = World::new();
    for (text, expected) in [
        ("exit 0", Exit::Code(0)),
        ("exit 77", Exit::Code(77)),
        ("kill -KILL $$", Exit::Signal { signal: 9, core_dumped: false }),
    ] {
        let module = world.launch(&script("dying", text)).unwrap();
        let ended = world.ended(&module);
        assert_eq!((ended.exit, ended.connection), (Some(expected), Some(CloseReason::PeerGone)));
        let pid = module.pid().unwrap();
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "a zombie is left");
    }
}

#[test]
fn a_module_that_ignores_everything_is_killed_with_all_that_it_started() {
    let world = World::new();
    let module = world
        .launch(&script("stubborn", "trap '' TERM; sh -c 'trap \"\" TERM; echo $$; sleep 1000' & wait; wait"))
        .unwrap();
    let printed = world.notes.printed("stubborn", "stdout", |lines| !lines.is_empty());
    let grandchild = format!("/proc/{}/stat", printed[0].parse::<u32>().unwrap());
    assert!(Path::new(&grandchild).exists());
    module.stop(6);
    let ended = world.ended(&module);
    assert_eq!(ended.exit, Some(Exit::Signal { signal: 9, core_dumped: false }));
    // It was killed with its parent; whoever adopts orphans here may not have reaped it.
    let gone = |stat: std::io::Result<String>| stat.map_or(true, |stat| stat.contains(") Z "));
    while !gone(std::fs::read_to_string(&grandchild)) {
        std::thread::yield_now();
    }
}

#[test]
fn a_module_that_reacts_to_sigterm_is_not_killed() {
    let world = World::new();
    let module = world
        .launch(&script("polite", "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.02; done"))
        .unwrap();
    world.notes.printed("polite", "stdout", last_is("ready"));
    module.stop(6);
    assert_eq!(world.ended(&module).exit, Some(Exit::Code(0)));
    world.notes.printed("polite", "stdout", last_is("bye"));
}

#[test]
fn what_cannot_be_started_is_said_with_module_and_cause() {
    let world = World::new();
    let missing = ModuleSpec::new("missing", "/nonexistent/module");
    let error = world.launch(&missing).err().unwrap().to_string();
    assert!(error.contains("\"missing\"") && error.contains("/nonexistent/module"), "{error}");
    let mut bad = script("bad", "true");
    bad.config = BTreeMap::from([("a=b".into(), String::new())]);
    let error = world.launch(&bad).err().unwrap();
    assert!(matches!(&error, LaunchError::BadConfigKey { key, .. } if key == "a=b"), "{error}");
}
