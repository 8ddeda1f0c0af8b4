/* HDLC-lite as OpenThread's Spinel frames its serial line: RFC 1662 octet stuffing without address and control. */
#include "mef-plugin/egp/egp.h"

#include "cse-shim/base/crc16.h"

enum { FLAG = 0x7e, ESCAPE = 0x7d, XON = 0x11, XOFF = 0x13, SPECIAL = 0xf8, TOGGLE = 0x20 };

static bool needs_escape(uint8_t b) { return b == FLAG || b == ESCAPE || b == XON || b == XOFF || b == SPECIAL; }

static void put_stuffed(struct wr *out, struct span s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (needs_escape(s.p[i]))
            wr_u8(out, ESCAPE);
        wr_u8(out, needs_escape(s.p[i]) ? s.p[i] ^ TOGGLE : s.p[i]);
    }
}

bool hdlc_encode(struct span payload, struct wr *out)
{
    uint16_t fcs = crc16_x25(payload);
    uint8_t tail[2] = {(uint8_t)fcs, (uint8_t)(fcs >> 8)};
    wr_u8(out, FLAG); /* ends whatever noise came before */
    put_stuffed(out, payload);
    put_stuffed(out, span_of(tail, sizeof tail));
    wr_u8(out, FLAG);
    return wr_ok(out);
}

static void frame_end(struct hdlc_decoder *d, void (*fn)(void *, struct span), void *user)
{
    size_t n = d->n;
    bool broken = d->overrun || d->escaped; /* an escape before the flag aborts the frame */
    d->n = 0;
    d->overrun = d->escaped = false;
    if (n == 0 && !broken)
        return; /* flags back to back */
    if (broken || n < 3 || crc16_x25(span_of(d->buf, n - 2)) != (uint16_t)(d->buf[n - 2] | d->buf[n - 1] << 8)) {
        d->bad_frames++;
        return;
    }
    fn(user, span_of(d->buf, n - 2));
}

void hdlc_decode(struct hdlc_decoder *d, struct span in, void (*fn)(void *user, struct span payload), void *user)
{
    for (size_t i = 0; i < in.n; i++) {
        uint8_t b = in.p[i];
        if (b == FLAG) {
            frame_end(d, fn, user);
        } else if (b == ESCAPE) {
            d->overrun |= d->escaped;
            d->escaped = true;
        } else if (d->n == sizeof d->buf) {
            d->overrun = true;
        } else {
            d->buf[d->n++] = d->escaped ? b ^ TOGGLE : b;
            d->escaped = false;
        }
    }
}
