// node-coap and node-dtls-client as commands:
//   get|get-non|put|observe HOST PORT PATH   body of put from standard input; the answer's body to standard output
//   dtls-get HOST PORT PATH IDENTITY KEY
//   serve HOST                       prints its port; /kept takes PUT and gives GET, /time is observable
"use strict";
const coap = require("coap");
const packet = require("coap-packet");
const { dtls } = require("node-dtls-client");
const [what, host, port, path, identity, key] = process.argv.slice(2);
const fail = (e) => { console.error(String(e)); process.exit(1); };
setTimeout(() => fail("no answer"), 25000).unref();

function ask(method, body, observe) {
  const confirmable = what !== "get-non";
  const req = coap.request({ hostname: host, port: Number(port), pathname: "/" + path, method, observe, confirmable });
  if (body !== undefined) req.setOption("Block1", Buffer.of(0x06));
  req.on("error", fail);
  req.on("response", (res) => {
    if (res.code[0] !== "2") fail(res.code);
    if (!observe) { process.stdout.write(res.payload, () => process.exit(0)); return; }
    let seen = 0;
    res.on("data", (d) => { process.stdout.write(d); if (++seen === 3) process.exit(0); });
  });
  req.end(body);
}

function dtlsGet() {
  const socket = dtls.createSocket({ type: host.includes(":") ? "udp6" : "udp4", address: host, port: Number(port),
    psk: { [identity]: key }, timeout: 5000, ciphers: ["TLS_PSK_WITH_AES_128_CCM_8"] });
  socket.on("error", fail);
  socket.on("connected", () => socket.send(packet.generate({ code: "GET", messageId: 7, token: Buffer.of(1),
    confirmable: true, options: [{ name: "Uri-Path", value: Buffer.from(path) }] })));
  socket.on("message", (m) => process.stdout.write(packet.parse(m).payload, () => process.exit(0)));
}

function serve() {
  let kept = Buffer.alloc(0), n = 0;
  const server = coap.createServer({ type: host.includes(":") ? "udp6" : "udp4" }, (req, res) => {
    if (req.url === "/time" && req.headers.Observe === 0) {
      const timer = setInterval(() => res.write(`${++n}\n`), 100);
      res.on("finish", () => clearInterval(timer));
      res.write("0\n");
    } else if (req.method === "PUT") {
      kept = req.payload;
      res.code = "2.04";
      res.end();
    } else res.end(kept);
  });
  server.listen(0, host, () => console.log(server._sock.address().port));
}

if (what === "serve") serve();
else if (what === "dtls-get") dtlsGet();
else if (what === "put") {
  const all = [];
  process.stdin.on("data", (d) => all.push(d));
  process.stdin.on("end", () => ask("PUT", Buffer.concat(all)));
} else ask("GET", undefined, what === "observe");
