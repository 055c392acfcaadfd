//! Lua as Redis runs it: the real scripts, compiled once a thread, over the model's commands.
//!
//! The machine is the thread's and has no state of any server: a server's data moves in for the time of a script and
//! out again. So thousands of servers share what is dear, the compiled scripts.

use std::cell::RefCell;

use mlua::{Function, Lua, LuaOptions, LuaString, StdLib, Table, Value};
use rustc_hash::FxHashMap;

use super::commands::{Command, Kind, shortest_17};
use super::dataset::Dataset;
use super::lines;
use super::refusals::Refusals;
use super::wire::{Reply, Words};

/// What a script works on, and what it did.
#[derive(Debug, Default)]
pub struct Run {
    pub data: Dataset,
    pub refusals: Refusals,
    /// Microseconds since the epoch: what TIME tells.
    pub wall_us: u64,
    /// A write was let through: none is refused any more, so that no script is stopped halfway.
    pub has_written: bool,
    /// Commands that changed something, for the append-only file and the replicas.
    pub effects: Vec<Words>,
}

thread_local! {
    static MACHINE: RefCell<Machine> = RefCell::new(Machine::new());
    static RUN: RefCell<Option<Run>> = const { RefCell::new(None) };
}

/// The hash by which Redis knows the script.
///
/// # Errors
/// Where it does not compile: the reply.
pub fn load(text: &[u8]) -> Result<String, Reply> {
    MACHINE.with_borrow_mut(|machine| machine.load(text))
}

/// Runs a script that was loaded on this thread.
pub fn run(hash: &str, keys: &[Vec<u8>], arguments: &[Vec<u8>], run: Run) -> (Reply, Run) {
    let outer = RUN.replace(Some(run));
    assert!(outer.is_none(), "a script within a script");
    let reply = MACHINE.with_borrow(|machine| machine.run(hash, keys, arguments));
    let run = RUN.take().expect("it is still there");
    (reply.expect("Lua has memory"), run)
}

struct Machine {
    lua: Lua,
    /// What scripts see as their globals; nothing can be added to it.
    environment: Table,
    globals: Table,
    /// Calls a script; gives whether it returned, and its value or its error.
    protected: Function,
    hashes: FxHashMap<Vec<u8>, String>,
    scripts: FxHashMap<String, Function>,
    /// By hash, where lines are noted.
    texts: FxHashMap<String, Vec<u8>>,
}

/// Around the functions written in Rust. What is raised is a table, which the handler completes.
const PRELUDE: &str = r#"
local redis, invoke, handler, globals = ...
function redis.pcall(...) return (invoke({ ... }, select('#', ...))) end
function redis.call(...)
  local reply, failed = invoke({ ... }, select('#', ...))
  if failed then error(reply) end
  return reply
end
-- Every user may do all there is.
function redis.acl_check_cmd() return true end
function redis.status_reply(text) return { ok = text } end
function redis.error_reply(text)
  if string.sub(text, 1, 1) == '-' then text = string.sub(text, 2) end
  if not string.find(text, ' ', 1, true) then text = 'ERR ' .. text end
  return { err = text }
end
setmetatable(globals, { __index = function(_, name)
  error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
end })
local environment = setmetatable({}, { __index = globals, __newindex = function()
  error('Attempt to modify a readonly table', 2)
end })
return environment, function(script) return xpcall(script, handler) end
"#;

/// The name that Redis gives to every script.
const CHUNK_NAME: &str = "@user_script";

/// As errors and hooks tell it.
pub const SOURCE: &str = "user_script";

impl Machine {
    fn new() -> Machine {
        Machine::build().expect("Lua starts")
    }

    fn build() -> mlua::Result<Machine> {
        let lua = Lua::new_with(StdLib::TABLE | StdLib::STRING | StdLib::MATH, LuaOptions::new())?;
        let globals = lua.globals();
        for name in ["dofile", "loadfile", "print", "collectgarbage"] {
            globals.raw_remove(name)?;
        }
        let redis = lua.create_table()?;
        let invoke = lua.create_function(invoke)?;
        let handler = lua.create_function(complete_error)?;
        globals.raw_set("redis", &redis)?;
        let prelude = lua.load(PRELUDE).set_name("@prelude").into_function()?;
        let (environment, protected) = prelude.call((redis, invoke, handler, &globals))?;
        if lines::are_noted() {
            lines::note(&lua)?;
        }
        Ok(Machine {
            lua,
            environment,
            globals,
            protected,
            hashes: FxHashMap::default(),
            scripts: FxHashMap::default(),
            texts: FxHashMap::default(),
        })
    }

    fn load(&mut self, text: &[u8]) -> Result<String, Reply> {
        if let Some(hash) = self.hashes.get(text) {
            return Ok(hash.clone());
        }
        let chunk = self.lua.load(text).set_name(CHUNK_NAME).set_environment(self.environment.clone());
        let function = chunk.into_function().map_err(|error| {
            let words = match &error {
                mlua::Error::SyntaxError { message, .. } => message.clone(),
                error => error.to_string(),
            };
            Reply::Error(format!("ERR Error compiling script (new function): {words}"))
        })?;
        let hash =
            ::redis::Script::new(std::str::from_utf8(text).expect("scripts are text")).get_hash().to_owned();
        if lines::are_noted() {
            self.texts.insert(hash.clone(), text.to_owned());
        }
        self.scripts.insert(hash.clone(), function);
        self.hashes.insert(text.to_owned(), hash.clone());
        Ok(hash)
    }

    fn run(&self, hash: &str, keys: &[Vec<u8>], arguments: &[Vec<u8>]) -> mlua::Result<Reply> {
        if let Some(text) = self.texts.get(hash) {
            lines::begin(text);
        }
        // One by one: handles to more than some thousand strings at once are too many for mlua.
        let strings = |words: &[Vec<u8>]| {
            let table = self.lua.create_table_with_capacity(words.len(), 0)?;
            for (index, word) in words.iter().enumerate() {
                table.raw_set(index + 1, self.lua.create_string(word)?)?;
            }
            mlua::Result::Ok(table)
        };
        self.globals.raw_set("KEYS", strings(keys)?)?;
        self.globals.raw_set("ARGV", strings(arguments)?)?;
        let (is_returned, value): (bool, Value) = self.protected.call(&self.scripts[hash])?;
        if is_returned {
            return reply_of(&value);
        }
        let Value::Table(error) = value else { panic!("the handler makes a table of every error") };
        let text = |name| error.raw_get::<Option<LuaString>>(name);
        let mut words = text("err")?.expect("an error has words").to_string_lossy();
        if let Some(source) = text("source")? {
            let line: i64 = error.raw_get("line")?;
            words += &format!(" script: {hash}, on {}:{line}.", source.to_string_lossy());
        }
        Ok(Reply::Error(words))
    }
}

/// `redis.call` and `redis.pcall`: the reply, and whether it is an error. The arguments come in a table: as many as a
/// script may unpack are more than a function in Rust takes.
fn invoke(lua: &Lua, (arguments, count): (Table, usize)) -> mlua::Result<(Value, bool)> {
    let reply = match words(&arguments, count)? {
        Ok(words) => RUN.with_borrow_mut(|run| run.as_mut().expect("a script is running").call(words)),
        Err(error) => error,
    };
    let failed = matches!(reply, Reply::Error(_));
    Ok((value_of(lua, reply)?, failed))
}

fn words(arguments: &Table, count: usize) -> mlua::Result<Result<Words, Reply>> {
    if count == 0 {
        return Ok(Err(Reply::error("ERR Please specify at least one argument for this redis.call() call")));
    }
    let mut words = Words::with_capacity(count);
    for index in 1..=count {
        words.push(match arguments.raw_get::<Value>(index)? {
            Value::String(text) => text.as_bytes().to_vec(),
            Value::Integer(number) => shortest_17(number as f64).into_bytes(),
            Value::Number(number) => shortest_17(number).into_bytes(),
            _ => {
                return Ok(Err(Reply::error(
                    "ERR Lua redis lib command arguments must be strings or integers",
                )));
            }
        });
    }
    Ok(Ok(words))
}

impl Run {
    fn call(&mut self, mut words: Words) -> Reply {
        let Some(command) = Command::named(&words[0]) else {
            return Reply::error("ERR Unknown Redis command called from script");
        };
        if !command.takes(words.len()) {
            return Reply::error("ERR Wrong number of args calling Redis command from script");
        }
        let kind = command.kind(&words);
        if kind == Kind::Server {
            return Reply::error("ERR This Redis command is not allowed from script");
        }
        if kind.writes() && !self.has_written {
            if let Some(refusal) = self.refusals.of_write(kind) {
                return refusal;
            }
            self.has_written = true;
        }
        match command.name {
            "TIME" => return time(self.wall_us),
            "PING" => return Reply::Status("PONG"),
            _ => {}
        }
        let before = self.data.changes;
        let reply = command.run(&mut self.data, &mut words);
        if self.data.changes != before {
            self.effects.push(words);
        }
        reply
    }
}

/// The reply to TIME: seconds and microseconds.
pub fn time(wall_us: u64) -> Reply {
    let part = |number: u64| Reply::bulk(number.to_string());
    Reply::Array(vec![part(wall_us / 1_000_000), part(wall_us % 1_000_000)])
}

/// Makes a table of an error and adds where it was raised, as Redis' own handler does.
fn complete_error(lua: &Lua, error: Value) -> mlua::Result<Table> {
    let table = match error {
        Value::Table(table) => table,
        other => {
            let words = match &other {
                Value::String(text) => text.to_string_lossy(),
                Value::Error(error) => panic!("the model failed in a script: {error}"),
                other => other.to_string()?,
            };
            let table = lua.create_table()?;
            table.raw_set("err", format!("ERR {words}"))?;
            table
        }
    };
    // Above the script are only functions in C and the prelude's.
    for level in 0.. {
        let place = lua.inspect_stack(level, |frame| {
            let is_script = frame.source().source.as_deref() == Some(CHUNK_NAME);
            is_script.then(|| frame.current_line()).flatten()
        });
        match place {
            None => break,
            Some(None) => {}
            Some(Some(line)) => {
                table.raw_set("source", CHUNK_NAME)?;
                table.raw_set("line", line)?;
                break;
            }
        }
    }
    Ok(table)
}

/// A reply as a script sees it.
fn value_of(lua: &Lua, reply: Reply) -> mlua::Result<Value> {
    Ok(match reply {
        Reply::Status(word) => {
            let table = lua.create_table_with_capacity(0, 1)?;
            table.raw_set("ok", word)?;
            Value::Table(table)
        }
        Reply::Error(words) => {
            let table = lua.create_table_with_capacity(0, 1)?;
            table.raw_set("err", words)?;
            Value::Table(table)
        }
        Reply::Integer(number) => Value::Number(number as f64),
        Reply::Bulk(bytes) => Value::String(lua.create_string(bytes)?),
        Reply::Nil | Reply::NilArray => Value::Boolean(false),
        Reply::Array(items) => {
            let table = lua.create_table_with_capacity(items.len(), 0)?;
            for (index, item) in items.into_iter().enumerate() {
                table.raw_set(index + 1, value_of(lua, item)?)?;
            }
            Value::Table(table)
        }
    })
}

/// What a script returned, as a client sees it.
fn reply_of(value: &Value) -> mlua::Result<Reply> {
    Ok(match value {
        Value::String(text) => Reply::bulk(text.as_bytes().as_ref()),
        Value::Integer(number) => Reply::Integer(*number),
        Value::Number(number) => Reply::Integer(*number as i64),
        Value::Boolean(true) => Reply::Integer(1),
        Value::Table(table) => {
            if let Some(words) = table.raw_get::<Option<LuaString>>("err")? {
                return Ok(Reply::Error(words.to_string_lossy()));
            }
            let mut items = Vec::new();
            for index in 1.. {
                match table.raw_get::<Value>(index)? {
                    Value::Nil => break,
                    item => items.push(reply_of(&item)?),
                }
            }
            Reply::Array(items)
        }
        _ => Reply::Nil,
    })
}
