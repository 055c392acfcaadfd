"use strict";
// The dashboard: shows what GET /v1/events tells, and asks for what an operator's buttons say. Text comes in as text only.
(() => {
  const POINTS_MAX = 900; // of a chart, in events
  const WINDOW_MS = 10_000; // of percentiles: long enough for a p99 of a slow sale
  const RATE_MS = 2_000; // of the rates in large letters
  const REOPEN_MS = 5_000; // silence after which a new connection is tried
  const SERVED = new Set(["granted", "replayed", "found", "confirmed", "cancelled", "extended", "released", "held-again",
    "sale-shown", "problem-explained", "front-page", "options"]);
  const UNABLE = new Set(["ledger-unavailable", "outcome-unknown", "overloaded"]);
  const CHANGEABLE = new Set(["open", "paused", "closed", "scheduled", "ended", "frozen"]);

  const $ = (id) => document.getElementById(id);
  const make = (name, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...children);
    return element;
  };
  const say = (element, text) => { if (element.textContent !== text) element.textContent = text; };

  // Numbers as people read them.
  const whole = new Intl.NumberFormat("en");
  const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
  const digits = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
  const number = (value) => value == null ? "–" : value >= 1e6 ? short.format(value) : value >= 100 ? whole.format(Math.round(value)) : digits.format(value);
  const time = (ms) => ms == null ? "–" : ms >= 1000 ? `${digits.format(ms / 1000)} s` : `${digits.format(ms)} ms`;

  // ---- What is known.
  let picked = new URLSearchParams(location.search).get("sale");
  let wasPicked = picked !== null; // by the operator, not for want of another one
  let sale = null; // the picked one
  let host = null; // the latest event
  let events = []; // those of the last WINDOW_MS
  let interval = 500;
  const requests = [[], [], [], []]; // time, bookings, refusals, 503s
  const wait = [[], [], [], []]; // time, p50, p90, p99
  const trip = [[], [], [], []];
  const batch = [[], []];
  const stocks = new Map(); // name: time, total, sold and held, sold

  const keep = (columns, values) => {
    columns.forEach((column, index) => {
      column.push(values[index]);
      if (column.length > POINTS_MAX) column.shift();
    });
  };
  const clear = (columns) => columns.forEach((column) => { column.length = 0; });

  const sum = (numbers) => numbers.reduce((total, value) => total + value, 0);
  const count = (event, holds) => sum(Object.entries(event.requests).filter(([label]) => holds(label)).map(([, value]) => value));
  const bookings = (event) => event.requests.granted;
  const refusals = (event) => count(event, (label) => !SERVED.has(label) && !UNABLE.has(label));
  const unables = (event) => count(event, (label) => UNABLE.has(label));
  const rate = (read, from, to) => (read(to) - read(from)) * 1000 / (to.elapsed_ms - from.elapsed_ms);

  // The latency that a share of all stayed below, in milliseconds, between two events; null if there was none.
  const percentile = (from, to, name, share) => {
    const counts = to[name].map((value, index) => value - from[name][index]);
    const all = sum(counts);
    if (all === 0) return null;
    const bounds = to.latency_bounds_us;
    let wanted = share * all;
    for (let index = 0; index < counts.length; index++) {
      if (counts[index] > 0 && wanted <= counts[index]) {
        const low = index === 0 ? 0 : bounds[index - 1];
        const high = bounds[index] ?? low;
        return (low + (high - low) * wanted / counts[index]) / 1000;
      }
      wanted -= counts[index];
    }
    return bounds[bounds.length - 1] / 1000;
  };
  const since = (ms) => events.find((event) => host.elapsed_ms - event.elapsed_ms <= ms) ?? events[0];

  // ---- Charts.
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const charts = [];
  const chart = (id, what, data, series, format, filled) => {
    const element = $(id);
    const plot = make("div", { className: "plot" });
    plot.setAttribute("role", "img");
    const legend = make("p", { className: "legend" });
    for (const [label, name] of series) {
      const key = make("i", { className: "key" });
      key.style.background = `var(--${name})`;
      legend.append(make("span", {}, key, label));
    }
    element.append(plot, legend);
    const one = { what, plot, data, series, format, drawn: null };
    one.draw = () => {
      one.drawn?.destroy();
      const axis = { stroke: color("quiet"), grid: { stroke: color("line"), width: 1 }, ticks: { stroke: color("line") }, font: "12px system-ui, sans-serif" };
      one.drawn = new uPlot({
        width: Math.max(plot.clientWidth, 80),
        height: plot.clientHeight,
        padding: [10, 24, 0, 0],
        legend: { show: false },
        cursor: { show: false },
        scales: { y: { range: (self, low, high) => [0, high > 0 ? high * 1.08 : 1] } },
        axes: [
          { ...axis, values: (self, ticks, axisIndex, space, step) => ticks.map((at) => clock(at, step)), space: 80, size: 34 },
          { ...axis, size: 58, values: (self, ticks) => ticks.map((tick) => onAxis(tick, format)) },
        ],
        series: [{}, ...series.map(([label, name]) => ({
          label, stroke: color(name), width: filled ? 0 : 2, fill: filled ? color(name) : undefined, points: { show: false }, spanGaps: false,
        }))],
      }, data(), plot);
    };
    new ResizeObserver(() => {
      one.drawn?.setSize({ width: Math.max(plot.clientWidth, 80), height: plot.clientHeight });
    }).observe(plot);
    charts.push(one);
  };
  const onAxis = (value, format) => format === number && value >= 10_000 ? short.format(value) : format(value);
  const clock = (seconds, step) => {
    const at = new Date(seconds * 1000);
    const parts = [at.getHours(), at.getMinutes()].concat(step < 60 ? at.getSeconds() : []);
    return parts.map((part) => String(part).padStart(2, "0")).join(":");
  };
  const redraw = () => {
    for (const one of charts) {
      const data = one.data();
      const latest = one.series.map(([label], index) => `${label} ${one.format(data[index + 1].at(-1))}`);
      one.plot.setAttribute("aria-label", `${one.what}: ${data[0].length ? latest.join(", ") : "nothing yet"}`);
      if (document.hidden || one.plot.clientHeight === 0) continue;
      if (one.drawn) one.drawn.setData(data);
      // Numbers come first; what draws them may still be on its way.
      else if (window.uPlot) one.draw();
    }
  };
  chart("chart-stock", "Tickets over time, each on top of the next", () => stocks.get(picked) ?? [[], [], [], []],
    [["available", "available"], ["held", "held"], ["sold", "sold"]], number, true);
  chart("chart-requests", "Requests a second", () => requests, [["bookings", "sold"], ["refusals", "held"], ["not served (503)", "second"]], number);
  chart("chart-wait", "Time from a request to its answer, if the ledger was asked", () => wait, [["p50", "sold"], ["p90", "third"], ["p99", "second"]], time);
  chart("chart-trip", "Time from a call to the ledger to its answer", () => trip, [["p50", "sold"], ["p90", "third"], ["p99", "second"]], time);
  chart("chart-batch", "Bookings and look-ups that one call carries", () => batch, [["entries a call", "sold"]], number);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach((one) => one.drawn && one.draw()));

  // ---- What is shown.
  const bar = (element, sale) => {
    const whole = Math.max(sale.total, 1);
    for (const [index, name] of ["sold", "held", "available"].entries()) {
      const width = `${Math.min(100, 100 * (sale[name] ?? 0) / whole)}%`;
      if (element.children[index].style.width !== width) element.children[index].style.width = width;
    }
  };
  const status = (element, word) => {
    say(element, word);
    element.dataset.status = word;
  };

  const rows = new Map();
  const showSales = () => {
    const list = $("sales");
    for (const [name, row] of rows) {
      if (!host.sales.some((it) => it.sale === name)) { row.item.remove(); rows.delete(name); }
    }
    host.sales.forEach((it, index) => {
      let row = rows.get(it.sale);
      if (!row) {
        const stock = make("span", { className: "stock" }, make("i", { className: "sold" }), make("i", { className: "held" }), make("i", { className: "available" }));
        const word = make("span", { className: "status" });
        const left = make("span", { className: "left" });
        const button = make("button", { type: "button", className: "pick" }, make("b", { textContent: it.sale }), word, left, stock);
        button.addEventListener("click", () => pick(it.sale));
        row = { item: make("li", {}, button), button, word, left, stock };
        rows.set(it.sale, row);
      }
      if (list.children[index] !== row.item) list.insertBefore(row.item, list.children[index] ?? null);
      status(row.word, it.status);
      say(row.left, it.total === undefined ? "" : `${number(it.available)} of ${number(it.total)} left`);
      bar(row.stock, it);
      row.button.setAttribute("aria-current", String(it.sale === picked));
    });
    const more = $("more-sales");
    more.hidden = host.more_sales === 0;
    say(more, `and ${whole.format(host.more_sales)} more: type a name`);
  };

  const span = (seconds) => seconds >= 3600 ? `${digits.format(seconds / 3600)} h` : seconds >= 60 ? `${digits.format(seconds / 60)} min` : `${digits.format(seconds)} s`;
  const showSale = () => {
    const is = sale !== null && sale.sale === picked;
    const known = is && sale.total !== undefined;
    say($("sale-title"), picked ?? "No sale");
    document.title = picked ? `${picked} · boxoffice` : "boxoffice";
    $("sale-status").hidden = !is;
    $("controls").hidden = !is || !CHANGEABLE.has(sale.status);
    $("sale-body").hidden = !known;
    $("no-sale").hidden = known;
    say($("no-sale"), !picked ? "There is no sale yet. Open one." : !is ? "" : sale.status === "unknown" ? "This host knows no sale of this name." : sale.status === "missing" ? "The ledger has lost this sale." : "The ledger's record of this sale is not sound.");
    if (!is) return;
    status($("sale-status"), sale.status);
    if (!known) return;
    bar($("stock"), sale);
    $("stock").setAttribute("aria-label", `${whole.format(sale.sold)} sold, ${whole.format(sale.held)} held, ${whole.format(sale.available)} available of ${whole.format(sale.total)}`);
    for (const name of ["sold", "held", "available", "total"]) say($(`count-${name}`), whole.format(sale[name]));
    const terms = [
      sale.hold_seconds !== undefined ? `held for ${span(sale.hold_seconds)}` : "paid at once",
      sale.per_buyer !== undefined ? `${whole.format(sale.per_buyer)} per buyer` : "no limit per buyer",
    ];
    if (sale.buyer_required) terms.push("names its buyers");
    if (sale.starts_at) terms.push(`starts ${new Date(sale.starts_at).toLocaleString()}`);
    if (sale.ends_at) terms.push(`ends ${new Date(sale.ends_at).toLocaleString()}`);
    if (sale.version !== undefined) say($("terms"), terms.join(" · "));
    buttons();
  };
  const buttons = () => {
    const is = stale ? null : sale?.status;
    const wanted = { pause: is && is !== "paused" && is !== "closed", resume: is === "paused" || is === "closed", raise: is, close: is && is !== "closed", audit: is && !auditing };
    const before = document.activeElement;
    const all = document.querySelectorAll("#controls button");
    for (const button of all) {
      if (button.disabled === Boolean(wanted[button.dataset.do])) button.disabled = !button.disabled;
    }
    // The keyboard does not lose its place.
    if (before.disabled) ([...all].find((button) => !button.disabled) ?? $("sale")).focus();
  };

  const showFaults = () => {
    const list = $("faults").querySelector("ul");
    const told = [...list.children].map((item) => item.textContent);
    if (told.length === host.faults.length && told.every((line, index) => line === host.faults[index])) return;
    $("faults").hidden = host.faults.length === 0;
    list.replaceChildren(...host.faults.map((line) => make("li", { textContent: line })));
  };

  const showCores = (before) => {
    const cores = host.cores;
    const body = $("cores").tBodies[0];
    const shown = cores.connections.length;
    while (body.rows.length > shown) body.deleteRow(-1);
    while (body.rows.length < shown) {
      body.append(make("tr", {}, make("th", { scope: "row", textContent: body.rows.length }), ...Array.from({ length: 7 }, () => make("td"))));
    }
    const a_second = (name, index) => before === host ? null : rate((event) => event.cores[name][index] ?? 0, before, host);
    for (let index = 0; index < shown; index++) {
      const cells = body.rows[index].cells;
      const up = cores.ledger_up[index] === 1;
      say(cells[1], up ? "up" : "down");
      cells[1].classList.toggle("down", !up);
      const values = [cores.connections[index], cores.waiting[index], cores.permits_free[index], cores.permits_taken[index], a_second("steals", index), a_second("ledger_calls", index)];
      values.forEach((value, column) => say(cells[column + 2], number(value)));
    }
    const more = $("more-cores");
    more.hidden = cores.count <= shown;
    say(more, `and ${cores.count - shown} more loops`);
  };

  const showHosts = () => {
    const body = $("hosts").tBodies[0];
    while (body.rows.length > host.hosts.length) body.deleteRow(-1);
    while (body.rows.length < host.hosts.length) {
      body.append(make("tr", {}, make("th", { scope: "row" }), ...Array.from({ length: 7 }, () => make("td"))));
    }
    host.hosts.forEach((it, index) => {
      const cells = body.rows[index].cells;
      const live = it.status === "live";
      say(cells[0], it.is_this ? `${it.address} (this)` : it.address);
      say(cells[1], live ? "live" : `silent for ${time(it.silent_ms * 1000)}`);
      cells[1].classList.toggle("down", !live);
      const values = [number(it.weight), `${(100 * it.share).toFixed(1)} %`, number(it.bookings_per_second), number(it.refusals_per_second), number(it.waiting), time(it.round_trip_us)];
      values.forEach((value, column) => say(cells[column + 2], value));
    });
    const more = $("more-hosts");
    more.hidden = host.more_hosts === 0;
    say(more, `and ${host.more_hosts} more hosts: GET /v1/hosts lists them`);
  };

  const showHost = () => {
    const before = since(RATE_MS);
    if (before !== host) {
      say($("bookings-rate"), number(rate(bookings, before, host)));
      say($("refusals-rate"), number(rate(refusals, before, host)));
      say($("wait-p99"), time(percentile(events[0], host, "booking_wait", 0.99)));
      say($("trip-p99"), time(percentile(events[0], host, "ledger_round_trip", 0.99)));
      say($("batch"), number(entriesACall(before, host)));
    }
    say($("connections"), number(sum(host.cores.connections)));
    say($("version"), host.version);
    showFaults();
    showSales();
    showHosts();
    showCores(before);
  };
  const entriesACall = (from, to) => {
    const [calls, entries] = ["ledger_calls", "ledger_entries"].map((name) => sum(to.cores[name]) - sum(from.cores[name]));
    return calls > 0 ? entries / calls : null;
  };

  // ---- What comes.
  const noteStock = (it, at) => {
    if (it.total === undefined) return;
    if (!stocks.has(it.sale)) stocks.set(it.sale, [[], [], [], []]);
    const columns = stocks.get(it.sale);
    if (columns[0].at(-1) >= at) return;
    // Stacked: the top of each.
    keep(columns, [at, it.total, it.sold + it.held, it.sold]);
  };
  const handleHost = (event) => {
    const before = host;
    if (!before) performance.mark("first numbers");
    host = event;
    interval = event.interval_ms;
    const at = Date.parse(event.at) / 1000;
    // Another process counts from the start again.
    if (before && event.started_at !== before.started_at) events = [];
    // Told once more, on another connection.
    if (events.length && event.elapsed_ms <= events.at(-1).elapsed_ms) return showAll();
    events = events.filter((it) => event.elapsed_ms - it.elapsed_ms <= WINDOW_MS);
    const last = events.at(-1);
    events.push(event);
    if (last) {
      const from = events[0];
      const ranks = (name) => [0.5, 0.9, 0.99].map((share) => percentile(from, event, name, share));
      keep(requests, [at, rate(bookings, last, event), rate(refusals, last, event), rate(unables, last, event)]);
      keep(wait, [at, ...ranks("booking_wait")]);
      keep(trip, [at, ...ranks("ledger_round_trip")]);
      keep(batch, [at, entriesACall(last, event)]);
    } else if (requests[0].length) {
      // What was not seen is a gap, not a line.
      [requests, wait, trip, batch].forEach((columns) => keep(columns, [at, ...columns.slice(1).map(() => null)]));
      for (const columns of stocks.values()) keep(columns, [at - 0.001, null, null, null]);
    }
    const names = new Set(event.sales.map((it) => it.sale).concat(picked ?? []));
    for (const name of stocks.keys()) if (!names.has(name)) stocks.delete(name);
    event.sales.forEach((it) => noteStock(it, at));
    const listed = event.sales.find((it) => it.sale === picked);
    if (listed) sale = { ...(sale?.sale === picked ? sale : {}), ...listed };
    if (picked === null && event.sales.length > 0) return pick(event.sales[0].sale, true);
    if (!wasPicked && picked !== null && !listed && event.sales.length > 0) return pick(event.sales[0].sale, true);
    showAll();
  };
  const showAll = () => {
    showHost();
    showSale();
    // Numbers are there before the first charts, which take longer.
    if (charts.some((one) => one.drawn)) redraw();
    else setTimeout(redraw);
  };
  const handleSale = (event) => {
    if (event.sale !== picked) return;
    sale = event;
    if (host) noteStock(event, Date.parse(host.at) / 1000);
    showSale();
  };
  const pick = (name, forWantOfOther = false) => {
    wasPicked = !forWantOfOther;
    if (name !== picked) {
      picked = name;
      sale = host?.sales.find((it) => it.sale === name) ?? null;
      if (wasPicked) history.replaceState(null, "", `?sale=${encodeURIComponent(name)}`);
      listen();
    }
    if (host) showAll();
  };

  // ---- The stream.
  let source = null;
  let heardAt = performance.now();
  let openedAt = 0;
  let stale = false;
  const listen = () => {
    source?.close();
    openedAt = performance.now();
    source = new EventSource(`/v1/events${picked === null ? "" : `?sale=${encodeURIComponent(picked)}`}`);
    source.addEventListener("host", (message) => { heard(); handleHost(JSON.parse(message.data)); });
    source.addEventListener("sale", (message) => handleSale(JSON.parse(message.data)));
  };
  const heard = () => {
    heardAt = performance.now();
    setLink("live");
  };
  const setLink = (state) => {
    const link = $("link");
    stale = state !== "live";
    document.body.toggleAttribute("data-stale", state === "stale");
    if (link.dataset.state === state) return;
    link.dataset.state = state;
    say(link, { live: "live", stale: "stale: no news from the host" }[state]);
    buttons();
  };
  const look = () => {
    const now = performance.now();
    if (now - heardAt > 2 * interval + 1500) setLink("stale");
    // A browser tries again by itself, but not after an answer that is no stream, nor where the network swallows everything.
    const isGone = source.readyState === EventSource.CLOSED;
    if (now - Math.max(heardAt, openedAt) > (isGone ? 1000 : REOPEN_MS)) listen();
  };

  // ---- What operators ask for.
  let busy = false;
  const tell = (text, failed = false) => {
    const told = $("told");
    told.hidden = false;
    told.toggleAttribute("data-failed", failed);
    told.textContent = text;
  };
  const ask = (dialog) => new Promise((resolve) => {
    dialog.returnValue = "";
    dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true });
    dialog.showModal();
  });
  const askToken = async () => {
    const field = $("token");
    field.value = sessionStorage.getItem("token") ?? "";
    const answer = await ask($("token-dialog"));
    if (answer === "keep" && field.value.trim()) sessionStorage.setItem("token", field.value.trim());
    if (answer === "forget") sessionStorage.removeItem("token");
    field.value = "";
    return answer === "keep";
  };
  const call = async (method, path, body, fields = {}) => {
    if (host?.needs_token && !sessionStorage.getItem("token") && !await askToken()) return null;
    const token = sessionStorage.getItem("token");
    const headers = { ...fields, ...(token ? { Authorization: `Bearer ${token}` } : {}), ...(body ? { "Content-Type": "application/json" } : {}) };
    busy = true;
    try {
      const answer = await fetch(path, { method, headers, body: body && JSON.stringify(body), cache: "no-store" });
      const told = await answer.json();
      if (answer.ok) return told;
      if (answer.status === 401) sessionStorage.removeItem("token");
      tell(answer.status === 401 ? "The host does not take this token. Try again with another one." : `${told.title}. ${told.detail}`, true);
    } catch (error) {
      tell(`The host did not answer: ${error.message}. What was asked for may have been done; the numbers tell.`, true);
    } finally {
      busy = false;
    }
    return null;
  };
  const changed = (told, words) => {
    if (!told) return;
    sale = told;
    tell(words);
    showSale();
  };
  // An audit: its events come as the answer to a POST, which an EventSource cannot make.
  const LISTED_MAX = 100;
  let auditing = null;
  const showAudit = (name, words, found) => {
    $("audit").hidden = false;
    say($("audit-sale"), name);
    say($("audit-verdict"), words);
    $("audit-verdict").dataset.found = found ?? "";
  };
  const endAudit = () => {
    auditing = null;
    $("audit-progress").hidden = true;
    say($("audit-end"), "Put away");
    buttons();
  };
  const audit = async () => {
    if (host?.needs_token && !sessionStorage.getItem("token") && !await askToken()) return;
    const name = picked;
    const token = sessionStorage.getItem("token");
    auditing = new AbortController();
    $("audit-lines").replaceChildren();
    const progress = $("audit-progress");
    progress.hidden = false;
    progress.removeAttribute("value");
    say($("audit-end"), "Stop");
    showAudit(name, "begins");
    buttons();
    try {
      const answer = await fetch(`/v1/sales/${encodeURIComponent(name)}/audit`, {
        method: "POST", headers: token ? { Authorization: `Bearer ${token}` } : {}, signal: auditing.signal, cache: "no-store",
      });
      if (!answer.ok) return failAudit(name, await answer.json());
      let text = "";
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        text += part.value;
        const blocks = text.split("\n\n");
        text = blocks.pop();
        for (const block of blocks) {
          const [, kind, data] = /^event: (.*)\ndata: (.*)$/.exec(block);
          const told = JSON.parse(data);
          if (kind === "progress") {
            // Log and bookings, of which there are no more than log entries, are nearly all there is.
            progress.max = Math.max(2 * told.sequence, told.rows, 1);
            progress.value = told.rows;
            showAudit(name, `reads its ${told.part}`);
          } else if (kind === "findings") {
            const count = told.differences_total;
            const line = (word, words) => make("li", {}, make("b", { textContent: word }), words);
            $("audit-lines").replaceChildren(
              ...Object.entries(told.counted).map(([word, words]) => line(word, words)),
              ...told.notes.map((note) => line("note", note)),
              ...told.differences.slice(0, LISTED_MAX).map((it) => line(it.kind, `${it.subject}: ${it.text}`)),
              ...(count > LISTED_MAX ? [line("and", `${whole.format(count - LISTED_MAX)} more: boxoffice audit ${name}`)] : []),
            );
            showAudit(name, count === 0 ? "no difference" : count === 1 ? "1 difference" : `${whole.format(count)} differences`, count === 0 ? "nothing" : "something");
          } else failAudit(name, told);
        }
      }
      if (/^reads|^begins/.test($("audit-verdict").textContent)) showAudit(name, "The host ended the audit before it was done.", "something");
    } catch (error) {
      showAudit(name, error.name === "AbortError" ? "stopped" : `The host did not answer: ${error.message}`, "something");
    } finally {
      endAudit();
    }
  };
  const failAudit = (name, problem) => {
    if (problem.status === 401) sessionStorage.removeItem("token");
    showAudit(name, `${problem.title}. ${problem.detail}`, "something");
  };
  $("audit-end").addEventListener("click", () => {
    if (auditing) return auditing.abort();
    $("audit").hidden = true;
    $("sale").focus();
  });
  const path = () => `/v1/sales/${encodeURIComponent(picked)}`;
  const deeds = {
    audit,
    pause: async () => changed(await call("POST", `${path()}/pause`), `${picked} is paused.`),
    resume: async () => changed(await call("POST", `${path()}/resume`), `${picked} is open.`),
    close: async () => {
      if (await ask($("close-dialog")) === "close") changed(await call("POST", `${path()}/close`), `${picked} is closed.`);
    },
    raise: async () => {
      const field = $("raise-by");
      field.value = "";
      if (await ask($("raise-dialog")) !== "raise") return;
      const by = field.valueAsNumber;
      // Of this version alone: sent twice, it is done once.
      const fields = sale.version === undefined ? {} : { "If-Match": `"${sale.version}"` };
      changed(await call("PUT", path(), { total_change: by }, fields), `${picked} has ${whole.format(by)} tickets more.`);
    },
  };
  $("controls").addEventListener("click", (event) => { if (!busy) deeds[event.target.dataset.do]?.(); });
  for (const button of document.querySelectorAll("dialog button[type=button]")) {
    button.addEventListener("click", () => button.closest("dialog").close(button.value));
  }
  $("token-button").addEventListener("click", askToken);
  $("open-sale").addEventListener("click", async () => {
    const form = $("open-dialog").querySelector("form");
    form.reset();
    if (await ask($("open-dialog")) !== "open") return;
    const [name, total, hold, limit] = ["name", "total", "hold", "limit"].map((field) => $(`open-${field}`).value);
    const terms = { total: Number(total), ...(hold && { hold_seconds: Number(hold) }), ...(limit && { per_buyer: Number(limit) }) };
    const told = await call("PUT", `/v1/sales/${encodeURIComponent(name)}`, terms, { "If-None-Match": "*" });
    if (!told) return;
    pick(name);
    changed(told, `${name} is open.`);
  });
  $("find").addEventListener("submit", (event) => {
    event.preventDefault();
    const name = $("find-name").value.trim();
    if (/^[A-Za-z0-9._-]{1,64}$/.test(name)) { pick(name); $("sale").focus(); }
    else if (name) tell("A name of a sale is 1 to 64 of A-Z a-z 0-9 . _ -", true);
  });

  say($("host"), location.host);
  listen();
  setInterval(look, 500);
})();
