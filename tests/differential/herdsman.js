// Labels as zigbee-herdsman reads them: JSON lines {"text"} in, {"eui64_text","install_code","crc_ok"} or {"error"} out.
// usage: node herdsman.js FOLDER-WITH-NODE_MODULES
const path = require("path");
const readline = require("readline");
const helpers = "node_modules/zigbee-herdsman/dist/controller/helpers/installCodes.js";
const {parseInstallCode, checkInstallCode} = require(path.resolve(process.argv[2], helpers));

function read(text) {
    try {
        const [eui64, code] = parseInstallCode(text);
        let ok = true;
        try {
            checkInstallCode(Buffer.from(code, "hex"), false);
        } catch {
            ok = false;
        }
        return {eui64_text: eui64.slice(2), install_code: code.toLowerCase(), crc_ok: ok};
    } catch (e) {
        return {error: e.message};
    }
}

readline.createInterface({input: process.stdin}).on("line", (line) => console.log(JSON.stringify(read(JSON.parse(line).text))));
