// A hub of one small model, in Hugging Face's protocol. It stops in the middle of the weights until it is told to go on.

import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import http from "node:http";

const MODEL = new URL("../../fixtures/tiny/qwen3_dense/", import.meta.url);
const COMMIT = "0123456789abcdef0123456789abcdef01234567";
const LARGE = 100_000;

export async function startHub() {
  const files = new Map(readdirSync(MODEL).filter((name) => !name.startsWith("golden")).map((name) => [name, readFileSync(new URL(name, MODEL))]));
  let goOn = () => {};
  const told = new Promise((resolve) => { goOn = resolve; });
  const sibling = ([rfilename, bytes]) => ({ rfilename, size: bytes.length, lfs: { size: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") } });
  const server = http.createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://hub");
    if (pathname.startsWith("/api/models/Qwen/Tiny/")) return response.end(JSON.stringify({ sha: COMMIT, siblings: [...files].map(sibling) }));
    const bytes = files.get(pathname.match(/\/resolve\/\w+\/(.+)$/)?.[1]);
    if (!bytes) return response.writeHead(404).end(JSON.stringify({ error: "Repository not found" }));
    const [from, to] = (request.headers.range ?? `bytes=0-${bytes.length - 1}`).replace("bytes=", "").split("-").map(Number);
    const part = bytes.subarray(from, to + 1);
    response.writeHead(206, { "content-range": `bytes ${from}-${to}/${bytes.length}`, "content-length": part.length });
    response.write(part.subarray(0, part.length / 2));
    if (bytes.length > LARGE) await told;
    response.end(part.subarray(part.length / 2));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const stop = () => {
    server.closeAllConnections();
    server.close();
  };
  return { address: `http://127.0.0.1:${server.address().port}`, goOn, stop };
}
