// Starts the real program on a free port, and a proxy before it that can play a model of its own.

import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** What the proxy answers in place of the model: pieces of a stream, or nothing to pass the request on. */
export const model = { /** @type {null | (() => AsyncGenerator<string>)} */ play: null };

/** A pool that nobody can reach: port 9 discards, and nothing listens there. */
const POOLS = `
home = "frankfurt"
[[pool]]
name = "far"
form = "openai"
url = "http://127.0.0.1:9/v1"
region = "paris"
[[pool.model]]
name = "far-model"
context_tokens = 4096
`;

const PRICES = `
[[price]]
model = "*"
input = "1"
output = "4"
embedding = "1"
`;

/** @param {string} binary @param {boolean} [asksForKeys] @param {string[]} [more] further options */
export async function start(binary, asksForKeys = false, more = []) {
  const data = mkdtempSync(join(tmpdir(), "sampan-console-"));
  writeFileSync(join(data, "pools.toml"), POOLS);
  writeFileSync(join(data, "prices.toml"), PRICES);
  const seer = new URL("../../fixtures/tiny/qwen3_vl", import.meta.url).pathname;
  const options = ["--model", `seer=${seer}`, "--pools", join(data, "pools.toml"), "--prices", join(data, "prices.toml"), ...more];
  const child = spawn(binary, ["up", ...(asksForKeys ? ["--keys"] : ["--open"]), "--listen", "127.0.0.1:0", "--data", data, ...options], { stdio: ["ignore", "pipe", "inherit"] });
  const address = await new Promise((resolve, reject) => {
    let text = "";
    child.stdout.on("data", (piece) => {
      text += piece;
      const found = text.match(/http:\/\/\S+/);
      if (found) resolve(found[0]);
    });
    child.on("exit", (code) => reject(new Error(`the program ended with ${code}`)));
  });
  const proxy = http.createServer((request, response) => pass(address, request, response));
  await new Promise((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  const stop = async () => {
    proxy.closeAllConnections();
    proxy.close();
    child.removeAllListeners("exit");
    const ended = new Promise((resolve) => child.on("exit", resolve));
    child.kill("SIGTERM");
    const timer = setTimeout(() => child.kill("SIGKILL"), 3000);
    await ended;
    clearTimeout(timer);
    rmSync(data, { recursive: true, force: true });
  };
  return { address: `http://127.0.0.1:${proxy.address().port}`, direct: address, data, stop };
}

const KINDS = { js: "text/javascript", css: "text/css", svg: "image/svg+xml", woff2: "font/woff2" };

/** With CONSOLE_LIVE=1 the console's files are those of the folder: a change needs no new program. */
function live(request, response) {
  const path = process.env.CONSOLE_LIVE && request.url.match(/^\/console\/[0-9a-f]{16}\/([\w./-]+)$/)?.[1];
  if (!path || path.includes("..")) return false;
  if (path === "style/all.css") {
    const sheets = ["tokens", "base", "parts", "views"].map((name) => readFileSync(new URL(`../style/${name}.css`, import.meta.url)));
    response.writeHead(200, { "content-type": KINDS.css });
    response.end(Buffer.concat(sheets));
    return true;
  }
  const file = new URL(`../${path}`, import.meta.url);
  response.writeHead(existsSync(file) ? 200 : 404, { "content-type": KINDS[path.split(".").at(-1)] ?? "text/plain" });
  response.end(existsSync(file) ? readFileSync(file) : "");
  return true;
}

/** The shell with the headers of the program. */
async function liveShell(address, response) {
  const answer = await fetch(address);
  const version = (await answer.text()).match(/console\/([0-9a-f]{16})\//)[1];
  const headers = Object.fromEntries([...answer.headers].filter(([name]) => !/^(content-(length|encoding)|transfer-encoding)$/.test(name)));
  response.writeHead(200, headers);
  response.end(readFileSync(new URL("../index.html", import.meta.url), "utf8").replaceAll("VERSION", version));
}

async function pass(address, request, response) {
  if (live(request, response)) return;
  if (process.env.CONSOLE_LIVE && request.url === "/") return liveShell(address, response);
  if (model.play && request.url === "/v1/chat/completions") {
    request.resume();
    response.writeHead(200, { "content-type": "text/event-stream" });
    try {
      for await (const piece of model.play()) {
        if (!response.write(piece)) await new Promise((resolve) => response.once("drain", resolve));
      }
    } catch {
      response.destroy();
      return;
    }
    response.end();
    return;
  }
  const inner = http.request(address + request.url, { method: request.method, headers: request.headers }, (answer) => {
    response.writeHead(answer.statusCode ?? 502, answer.headers);
    answer.pipe(response);
  });
  inner.on("error", () => response.destroy());
  request.pipe(inner);
}

export const piece = (delta, finish = null) => `data: ${JSON.stringify({ choices: [{ index: 0, delta, finish_reason: finish }] })}\n\n`;

/** A whole answer of these texts. */
export function texts(list) {
  return async function* () {
    for (const content of list) yield piece({ content });
    yield piece({}, "stop");
    yield "data: [DONE]\n\n";
  };
}
