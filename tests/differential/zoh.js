// Opens frames with zigbee-on-host, a coordinator by others. One JSON line in ({"nwk_frame","link_key","network_key"}),
// one out: what the layers held, or {"error"}. The first argument is the folder that holds node_modules.
"use strict";
const path = require("node:path");
const readline = require("node:readline");
const dist = path.join(process.argv[2], "node_modules", "zigbee-on-host", "dist", "zigbee");
const nwk = require(path.join(dist, "zigbee-nwk.js"));
const aps = require(path.join(dist, "zigbee-aps.js"));

const TUNNEL = 0x0e;
const COMMAND = 1;

function openAps(frame, linkKey, source64) {
    const [fcf, headerAt] = aps.decodeZigbeeAPSFrameControl(frame, 0);
    const [header, payloadAt] = aps.decodeZigbeeAPSHeader(frame, headerAt, fcf);
    const payload = aps.decodeZigbeeAPSPayload(frame, payloadAt, fcf.security ? linkKey : undefined, source64, fcf, header);
    return { fcf, header, payload };
}

function open({ nwk_frame, link_key, network_key }) {
    const frame = Buffer.from(nwk_frame, "hex"); // decoding alters its buffer for a while
    const linkKey = link_key ? Buffer.from(link_key, "hex") : undefined;
    const [fcf, headerAt] = nwk.decodeZigbeeNWKFrameControl(frame, 0);
    const [header, payloadAt] = nwk.decodeZigbeeNWKHeader(frame, headerAt, fcf);
    const key = network_key ? Buffer.from(network_key, "hex") : undefined;
    const payload = nwk.decodeZigbeeNWKPayload(frame, payloadAt, key, undefined, fcf, header);
    const answer = { nwk_seq: header.seqNum, nwk_radius: header.radius, dst: header.destination16, src: header.source16 };
    if (header.securityHeader) answer.nwk_frame_counter = header.securityHeader.frameCounter;
    if (fcf.frameType === COMMAND) return { ...answer, nwk_command: Buffer.from(payload).toString("hex") };
    let inner = openAps(Buffer.from(payload), linkKey, header.securityHeader?.source64);
    if (inner.fcf.frameType === COMMAND && inner.payload[0] === TUNNEL) {
        answer.tunnel_counter = inner.header.counter;
        inner = openAps(Buffer.from(inner.payload.subarray(9)), linkKey, undefined);
    }
    answer.aps_counter = inner.header.counter;
    answer.aps_ack_request = inner.fcf.ackRequest;
    if (inner.header.securityHeader) answer.aps_frame_counter = inner.header.securityHeader.frameCounter;
    for (const [name, member] of [["dst_endpoint", "destEndpoint"], ["src_endpoint", "sourceEndpoint"],
                                  ["cluster", "clusterId"], ["profile", "profileId"]])
        if (inner.header[member] !== undefined) answer[name] = inner.header[member];
    answer.plaintext = Buffer.from(inner.payload).toString("hex");
    return answer;
}

readline.createInterface({ input: process.stdin }).on("line", (line) => {
    let answer;
    try {
        answer = open(JSON.parse(line));
    } catch (e) {
        answer = { error: String(e.message) };
    }
    process.stdout.write(JSON.stringify(answer) + "\n");
});
