/* Label and QR texts: what vendors print, and what users type from it. The formats are listed in
 * docs/mefctl-zigbee.md. */
#include "mef-plugin/zigbee/internal.h"
#include <ctype.h>
#include <openssl/crypto.h>

enum { LABEL_MAX = 512 };

/* A piece of the label's text, borrowed. */
struct text {
    const char *p;
    size_t n;
};

/* What a format found: where the EUI-64 and the code are printed. */
struct found {
    struct text eui, code;
    bool is_link_key;
};

static struct text trim(struct text t)
{
    while (t.n != 0 && isspace((unsigned char)t.p[0]))
        t = (struct text){t.p + 1, t.n - 1};
    while (t.n != 0 && isspace((unsigned char)t.p[t.n - 1]))
        t.n--;
    return t;
}

/* Cut the first piece off *rest, up to one of `separators`. False at the end. */
static bool next_piece(struct text *rest, const char *separators, struct text *piece)
{
    if (rest->p == NULL)
        return false;
    size_t n = 0;
    while (n < rest->n && strchr(separators, rest->p[n]) == NULL)
        n++;
    *piece = trim((struct text){rest->p, n});
    *rest = n < rest->n ? (struct text){rest->p + n + 1, rest->n - n - 1} : (struct text){NULL, 0};
    return true;
}

static bool is_field(struct text t, char name, struct text *value)
{
    if (t.n < 2 || t.p[0] != name || t.p[1] != ':')
        return false;
    *value = trim((struct text){t.p + 2, t.n - 2});
    return true;
}

/* Groups parted by '%', fields by '$': Z:<EUI>$I:<code> (Ubisys, Danfoss, Inovelli, Ledvance), Z$A:<EUI>$I:<code>
 * (Namron), the same after other groups (Aqara). Another group's A field is no address. */
static bool dollar_fields(struct text label, struct found *f)
{
    struct text group;
    while (next_piece(&label, "%", &group)) {
        struct text field;
        bool in_z = group.n != 0 && group.p[0] == 'Z';
        while (next_piece(&group, "$", &field)) {
            (void)(is_field(field, 'Z', &f->eui) || (in_z && is_field(field, 'A', &f->eui)) ||
                   is_field(field, 'I', &f->code));
        }
    }
    return f->eui.p != NULL || f->code.p != NULL;
}

/* HUE:Z:<code> M:<EUI> D:.. A:.. ; here Z is the code. */
static bool hue(struct text label, struct found *f)
{
    if (label.n < 4 || strncmp(label.p, "HUE:", 4) != 0)
        return false;
    label = (struct text){label.p + 4, label.n - 4};
    struct text field;
    while (next_piece(&label, " \t", &field))
        (void)(is_field(field, 'Z', &f->code) || is_field(field, 'M', &f->eui));
    return true;
}

/* <EUI>|<code> (Mueller-Licht, Innr, Consciot), |<EUI>|<code>| (frient). */
static bool pipes(struct text label, struct found *f)
{
    if (memchr(label.p, '|', label.n) == NULL)
        return false;
    struct text piece, got[3] = {{NULL, 0}, {NULL, 0}, {NULL, 0}};
    size_t n = 0;
    while (next_piece(&label, "|", &piece))
        if (piece.n != 0 && n < 3)
            got[n++] = piece;
    if (n > 2)
        return false;
    f->eui = got[0];
    f->code = got[1];
    return true;
}

/* RB01SG, 34 hex digits, EUI, DLK, then 36 digits (code || CRC) or 32 (a link key ready to use): Bosch. */
static bool bosch(struct text label, struct found *f)
{
    if ((label.n != 91 && label.n != 95) || strncmp(label.p, "RB01SG", 6) != 0 || strncmp(label.p + 56, "DLK", 3) != 0)
        return false;
    f->eui = (struct text){label.p + 40, 16};
    f->code = (struct text){label.p + 59, label.n - 59};
    f->is_link_key = label.n == 91;
    return true;
}

/* Hex digits, with dashes, colons and spaces between them; out holds cap bytes. */
static enum zb_err hex_read(struct text t, uint8_t *out, size_t cap, size_t *len)
{
    char digits[2 * 18 + 1];
    size_t n = 0;
    for (size_t i = 0; i < t.n; i++) {
        if (strchr("-: \t", t.p[i]) != NULL)
            continue;
        if (!isxdigit((unsigned char)t.p[i]))
            return ZB_BAD_HEX;
        if (n == sizeof digits - 1)
            return ZB_BAD_LENGTH;
        digits[n++] = t.p[i];
    }
    *len = n / 2;
    bool ok = n % 2 == 0 && *len <= cap && hex_decode(digits, n, out, *len);
    OPENSSL_cleanse(digits, sizeof digits);
    return ok ? ZB_OK : ZB_BAD_LENGTH;
}

static enum zb_err eui_read(struct text t, eui64_t *out)
{
    uint8_t bytes[8];
    size_t len;
    if (hex_read(t, bytes, sizeof bytes, &len) != ZB_OK || len != sizeof bytes)
        return ZB_MALFORMED;
    struct rd r = rd_of(span_of(bytes, sizeof bytes));
    return rd_be64(&r, out) && *out != 0 && *out != UINT64_MAX ? ZB_OK : ZB_MALFORMED;
}

static enum zb_err code_read(const struct found *f, struct zb_label *out)
{
    enum zb_err e = hex_read(f->code, out->bytes, sizeof out->bytes, &out->len);
    if (e != ZB_OK)
        return e;
    out->is_link_key = f->is_link_key;
    if (out->is_link_key)
        return out->len == ZB_KEY ? ZB_OK : ZB_BAD_LENGTH;
    return zb_install_code_check(span_of(out->bytes, out->len));
}

/* The text in upper case without outer space. With `compact` (a label of fixed columns) inner spaces and dashes go
 * too. */
static struct text normalise(const char *text, bool compact, char buf[LABEL_MAX])
{
    size_t n = 0;
    for (; *text != '\0' && n < LABEL_MAX; text++)
        if (!compact || (!isspace((unsigned char)*text) && *text != '-'))
            buf[n++] = (char)toupper((unsigned char)*text);
    return trim((struct text){buf, n});
}

static bool recognise(const char *text, char buf[LABEL_MAX], struct found *f)
{
    if (bosch(normalise(text, true, buf), f))
        return true;
    struct text label = normalise(text, false, buf);
    return hue(label, f) || pipes(label, f) || dollar_fields(label, f);
}

enum zb_err zb_label_parse(const char *text, struct zb_label *out, const char **why)
{
    char buf[LABEL_MAX];
    struct found f = {0};
    enum zb_err e = ZB_MALFORMED;
    *out = (struct zb_label){0};
    *why = NULL;
    if (strnlen(text, LABEL_MAX) == LABEL_MAX || !recognise(text, buf, &f))
        *why = "unknown-format";
    else if (f.eui.n == 0)
        *why = "no-eui64";
    else if (f.code.n == 0)
        *why = "no-code";
    else if (eui_read(f.eui, &out->eui64) != ZB_OK)
        *why = "bad-eui64";
    else if ((e = code_read(&f, out)) != ZB_OK)
        *why = zb_err_name(e);
    if (*why != NULL)
        OPENSSL_cleanse(out, sizeof *out);
    OPENSSL_cleanse(buf, sizeof buf);
    return *why == NULL ? ZB_OK : e;
}
