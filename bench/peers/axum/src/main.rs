//! A peer: the same trade written with axum. One EVALSHA an order over one multiplexed connection to Redis, which
//! pipelines what its tasks send at the same time. Its script counts and does nothing else: no booking id, no record, no
//! replay.
//!
//!     peer-axum PORT LOOPS REDIS-PORT SCRIPT-SHA

use std::env;
use std::error::Error;
use std::io::Write;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use redis::aio::MultiplexedConnection;
use tokio::net::TcpListener;

const GRANTED: &str = r#"{"code":1,"msg":"Ticket purchase successful"}"#;
const SOLD_OUT: &str = r#"{"code":-1,"msg":"Sold out"}"#;

#[derive(Clone)]
struct Shop {
    redis: MultiplexedConnection,
    script: &'static str,
}

async fn buy(State(mut shop): State<Shop>) -> Response {
    let mut order = redis::cmd("EVALSHA");
    order.arg(shop.script).arg(1).arg("peer:stock");
    match order.query_async::<i64>(&mut shop.redis).await {
        Ok(1) => json(GRANTED),
        Ok(_) => json(SOLD_OUT),
        Err(error) => {
            eprintln!("{error}");
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
    }
}

fn json(body: &'static str) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

async fn serve(port: u16, redis_port: u16, script: &'static str) -> Result<(), Box<dyn Error>> {
    let client = redis::Client::open(format!("redis://127.0.0.1:{redis_port}/"))?;
    let redis = client.get_multiplexed_async_connection().await?;
    let shop = Router::new().route("/buy/ticket", get(buy)).with_state(Shop { redis, script });
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("ready");
    std::io::stdout().flush()?;
    let listener = axum::serve::ListenerExt::tap_io(listener, |stream| {
        let _ = stream.set_nodelay(true);
    });
    Ok(axum::serve(listener, shop).await?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [port, loops, redis_port, script] = words.as_slice() else {
        return Err("takes PORT LOOPS REDIS-PORT SCRIPT-SHA".into());
    };
    let (port, redis_port, loops) = (port.parse()?, redis_port.parse()?, loops.parse()?);
    let script: &'static str = script.clone().leak();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(loops).enable_all().build()?;
    runtime.block_on(serve(port, redis_port, script))
}
