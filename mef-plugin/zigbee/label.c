/* Label and QR texts: what vendors print, what scanners make of it, and what users type from it. The formats are listed in
 * docs/mefctl-zigbee.md.
 *
 * A text is unwrapped (case, URL encoding, typographic spaces and dashes), then each format looks for its marks in it, with
 * whatever stands around them. What a mark announces is a field: groups of hex digits. */
#include "mef-plugin/zigbee/internal.h"
#include <ctype.h>
#include <openssl/crypto.h>

enum { LABEL_MAX = 512, FIELD_MAX = 36, EUI_DIGITS = 16, CODE_DIGITS = 36, BOSCH_SERIAL = 34 };

/* The text in upper case, in ASCII, without escapes; at[i]: which character of the text as given, from 1. */
struct text {
    char p[LABEL_MAX + 1];
    uint16_t at[LABEL_MAX + 1];
    size_t n;
};

struct field { /* groups of hex digits that stand together; the digits, which may be a key's, stay in the text */
    size_t n;   /* digits */
    size_t bad; /* character of the text as given which is no digit and stands where one should; 0: none */
    size_t from, end;
};

/* What a format found. */
struct found {
    struct field eui, code;
    unsigned neuis, ncodes;
    bool is_link_key;
};

/* --- unwrapping --------------------------------------------------------------------------------------------------- */

static int hex_digit(char ch)
{
    return ch >= '0' && ch <= '9' ? ch - '0' : ch >= 'A' && ch <= 'F' ? ch - 'A' + 10 : -1;
}

/* %24 stands for '$', in a text that went through a URL. Only marks, separators and what is not ASCII are unescaped: in the
 * texts themselves '%' parts groups, and a group begins with a letter and a mark, never with the number of one of these. */
static bool escaped(const char *p, char *out)
{
    static const char special[] = " $%:|-\r\n\t\"";
    if (p[0] != '%' || p[1] == '\0' || p[2] == '\0')
        return false;
    int high = hex_digit((char)toupper((unsigned char)p[1])), low = hex_digit((char)toupper((unsigned char)p[2]));
    if (high < 0 || low < 0 || (high | low) == 0)
        return false;
    *out = (char)(high << 4 | low);
    return high > 7 || strchr(special, *out) != NULL;
}

static bool unwrap(const char *given, struct text *t)
{
    uint16_t at = 0;
    for (; *given != '\0'; given++) {
        bool continues = ((unsigned char)*given & 0xc0) == 0x80; /* UTF-8 */
        char ch = *given;
        at = (uint16_t)(at + !continues);
        if (continues)
            continue;
        if (t->n == LABEL_MAX)
            return false;
        t->at[t->n] = at;
        if (escaped(given, &ch)) {
            given += 2;
            at = (uint16_t)(at + 2);
        }
        /* Typographic dashes and spaces are outside ASCII; nothing that counts is. '+' is a space in a URL. */
        t->p[t->n++] = (char)(((unsigned char)ch & 0x80) != 0 || ch == '+' ? ' ' : toupper((unsigned char)ch));
    }
    t->p[t->n] = '\0';
    return true;
}

/* --- fields ------------------------------------------------------------------------------------------------------- */

static bool is_blank(char ch)
{
    return ch == ' ' || ch == '\t';
}

static bool is_joint(char ch) /* between groups of digits */
{
    return is_blank(ch) || ch == '-' || ch == ':';
}

static bool ends_field(char ch) /* what belongs to a text around it, or to the next field */
{
    return ch == '\0' || strchr("$%|\r\n\"'<>()[]{},;=&/#", ch) != NULL;
}

/* Does a group begin at i? What stands behind the first one may be another word: it belongs to the field when it is of
 * digits, or holds one while some are missing. */
static bool is_group(const struct text *t, size_t i, bool missing)
{
    bool all = true, any = false;
    size_t n = 0;
    for (; !ends_field(t->p[i + n]) && !is_joint(t->p[i + n]); n++) {
        all &= hex_digit(t->p[i + n]) >= 0;
        any |= isdigit((unsigned char)t->p[i + n]) != 0;
    }
    bool mark = n == 1 && t->p[i + n] == ':'; /* "M:" begins another field */
    return n != 0 && !mark && (all || (missing && any));
}

static void take_digit(const struct text *t, size_t i, struct field *f)
{
    if (hex_digit(t->p[i]) < 0 && f->bad == 0)
        f->bad = t->at[i];
    f->n++;
    f->end = i + 1;
}

/* The field at or behind `from`, of `want` digits. It goes on in the next line only as long as that many are not there; a
 * code, which has a CRC, ends when they are there, whatever stands behind it. */
static struct field field_at(const struct text *t, size_t from, size_t want)
{
    struct field f = {.from = from, .end = from};
    size_t i = from;
    for (;;) {
        size_t next = i;
        bool line = false;
        while (is_joint(t->p[next]) || (t->p[next] != '\0' && strchr("\r\n", t->p[next]) != NULL)) {
            line |= !is_joint(t->p[next]);
            next++;
        }
        bool enough = f.n >= want && (line || want == CODE_DIGITS);
        if (ends_field(t->p[next]) || (next != i && (enough || (f.n != 0 && !is_group(t, next, f.n < want)))))
            return f;
        for (i = next; !ends_field(t->p[i]) && !is_joint(t->p[i]); i++)
            take_digit(t, i, &f);
    }
}

static bool is_start(const struct text *t, size_t i) /* ..of a word */
{
    return i == 0 || !isalnum((unsigned char)t->p[i - 1]);
}

/* The place behind a mark such as "Z:" that begins a word in [from, to); 0: there is none. */
static size_t behind(const struct text *t, const char *mark, size_t from, size_t to)
{
    size_t n = strlen(mark);
    for (size_t i = from; i + n <= to; i++)
        if (is_start(t, i) && strncmp(t->p + i, mark, n) == 0)
            return i + n;
    return 0;
}

static void set_eui(struct found *f, const struct text *t, size_t at)
{
    f->eui = field_at(t, at, EUI_DIGITS);
    f->neuis++;
}

static void set_code(struct found *f, const struct text *t, size_t at)
{
    f->code = field_at(t, at, CODE_DIGITS);
    f->ncodes++;
}

/* --- formats: true when the text is one --------------------------------------------------------------------------- */

static size_t piece_end(const struct text *t, size_t from, size_t to, const char *separators)
{
    while (from < to && strchr(separators, t->p[from]) == NULL)
        from++;
    return from;
}

/* Does the word before a group's first '$' say that the group is the device's? ("Z$A:<EUI>$I:<code>") */
static bool is_device_group(const struct text *t, size_t from, size_t dollar)
{
    while (dollar > from && isspace((unsigned char)t->p[dollar - 1]))
        dollar--;
    return dollar > from && t->p[dollar - 1] == 'Z' && is_start(t, dollar - 1);
}

/* Groups parted by '%', fields by '$': Z:<EUI>$I:<code> (Ubisys, Danfoss, Inovelli, Ledvance), Z$A:<EUI>$I:<code>
 * (Namron), the same after other groups (Aqara). Another group's A field is no address. */
static bool dollar_fields(const struct text *t, struct found *f)
{
    for (size_t group = 0, end; group < t->n; group = end + 1) {
        end = piece_end(t, group, t->n, "%");
        size_t dollar = piece_end(t, group, end, "$"), at;
        bool device = dollar < end && is_device_group(t, group, dollar);
        for (size_t field = group, stop; field < end; field = stop + 1) {
            stop = piece_end(t, field, end, "$");
            if ((at = behind(t, "I:", field, stop)) != 0)
                set_code(f, t, at);
            else if ((at = behind(t, "Z:", field, stop)) != 0 || (device && (at = behind(t, "A:", field, stop)) != 0))
                set_eui(f, t, at);
        }
    }
    return f->neuis != 0 || f->ncodes != 0;
}

/* HUE:Z:<code> M:<EUI> D:.. A:..; here Z is the code. */
static bool hue(const struct text *t, struct found *f)
{
    size_t from = behind(t, "HUE:", 0, t->n), at;
    if (from == 0)
        return false;
    for (size_t i = from; (at = behind(t, "Z:", i, t->n)) != 0; i = at)
        set_code(f, t, at);
    for (size_t i = from; (at = behind(t, "M:", i, t->n)) != 0; i = at)
        set_eui(f, t, at);
    return true;
}

/* The start of an EUI-64 that ends where the bar stands; the bar: there is none. */
static size_t eui_before(const struct text *t, size_t from, size_t bar)
{
    for (size_t i = from; i < bar; i++) {
        if (!is_start(t, i) || is_joint(t->p[i]) || ends_field(t->p[i]))
            continue;
        struct field f = field_at(t, i, EUI_DIGITS);
        if (f.n == EUI_DIGITS && f.bad == 0 && piece_end(t, f.end, bar, "|") == bar && !is_group(t, f.end, false))
            return i;
    }
    return bar;
}

/* <EUI>|<code> (Mueller-Licht, Innr, Consciot), |<EUI>|<code>| (frient). Where no EUI-64 stands before a bar, the first
 * thing there is what should be one. */
static bool pipes(const struct text *t, struct found *f)
{
    size_t fallback = 0;
    if (memchr(t->p, '|', t->n) == NULL)
        return false;
    size_t from = 0, bar;
    while ((bar = piece_end(t, from, t->n, "|")) < t->n) {
        size_t at = eui_before(t, from, bar);
        struct field next = field_at(t, bar + 1, CODE_DIGITS);
        if (at < bar) {
            set_eui(f, t, at);
            set_code(f, t, bar + 1);
        } else if (f->ncodes != 0 && next.n == CODE_DIGITS && next.bad == 0) {
            f->ncodes++; /* <EUI>|<code>|<code> */
        } else if (fallback == 0 && next.n != 0 && field_at(t, from, EUI_DIGITS).n != 0) {
            fallback = from + 1;
        }
        from = at < bar ? next.end : bar + 1; /* the end of a code is no EUI-64 */
    }
    if (f->neuis == 0 && fallback != 0) {
        set_eui(f, t, fallback - 1);
        set_code(f, t, piece_end(t, fallback - 1, t->n, "|") + 1);
    }
    return f->neuis != 0;
}

/* RB01SG, 34 hex digits, EUI, DLK, then 36 digits (code || CRC) or 32 (a link key ready to use): Bosch. The columns are
 * fixed; spaces and dashes do not count. */
static bool bosch(const struct text *t, struct found *f)
{
    size_t at = behind(t, "RB01SG", 0, t->n);
    if (at == 0)
        return false;
    for (size_t skipped = 0; t->p[at] != '\0' && (skipped < BOSCH_SERIAL || is_joint(t->p[at])); at++)
        skipped += !is_joint(t->p[at]);
    f->eui = (struct field){.from = at};
    f->neuis = 1;
    for (; !ends_field(t->p[at]) && (f->eui.n < EUI_DIGITS || is_joint(t->p[at])); at++)
        if (!is_joint(t->p[at]))
            take_digit(t, at, &f->eui);
    if (strncmp(t->p + at, "DLK", 3) == 0)
        set_code(f, t, at + 3);
    f->is_link_key = f->code.n == 2 * ZB_KEY;
    return true;
}

static bool recognise(const struct text *t, struct found *f)
{
    return bosch(t, f) || hue(t, f) || pipes(t, f) || dollar_fields(t, f);
}

/* --- values ------------------------------------------------------------------------------------------------------- */

/* The field's bytes; they are as many as it has digits, at most FIELD_MAX / 2. */
static enum zb_err bytes_of(const struct text *t, const struct field *f, uint8_t out[FIELD_MAX / 2])
{
    if (f->bad != 0)
        return ZB_BAD_HEX;
    if (f->n % 2 != 0 || f->n > FIELD_MAX)
        return ZB_BAD_LENGTH;
    size_t n = 0;
    for (size_t i = f->from; i < f->end && n < f->n; i++) {
        int digit = hex_digit(t->p[i]);
        if (digit < 0)
            continue; /* between groups */
        out[n / 2] = (uint8_t)(n % 2 == 0 ? digit << 4 : out[n / 2] | digit);
        n++;
    }
    return n == f->n ? ZB_OK : ZB_BAD_LENGTH;
}

static enum zb_err eui_read(const struct text *t, const struct field *f, eui64_t *out)
{
    uint8_t bytes[FIELD_MAX / 2];
    enum zb_err e = f->bad != 0 || f->n == EUI_DIGITS ? bytes_of(t, f, bytes) : ZB_BAD_LENGTH;
    if (e != ZB_OK)
        return e == ZB_BAD_HEX ? e : ZB_MALFORMED;
    struct rd r = rd_of(span_of(bytes, EUI_DIGITS / 2));
    return rd_be64(&r, out) && *out != 0 && *out != UINT64_MAX ? ZB_OK : ZB_MALFORMED;
}

static enum zb_err code_read(const struct text *t, const struct found *f, struct zb_label *out)
{
    enum zb_err e = bytes_of(t, &f->code, out->bytes);
    if (e != ZB_OK)
        return e;
    out->len = f->code.n / 2;
    out->is_link_key = f->is_link_key;
    return out->is_link_key ? ZB_OK : zb_install_code_check(span_of(out->bytes, out->len));
}

/* Is there another code, anywhere beside the one found? One with a right CRC is no serial number. */
static bool another_code(const struct text *t, const struct field *used)
{
    uint8_t bytes[FIELD_MAX / 2];
    bool found = false;
    for (size_t i = 0; i < t->n && !found; i++) {
        if (!is_start(t, i) || is_joint(t->p[i]) || ends_field(t->p[i]) || (i >= used->from && i < used->end))
            continue;
        struct field f = field_at(t, i, CODE_DIGITS);
        found = f.n == CODE_DIGITS && bytes_of(t, &f, bytes) == ZB_OK &&
                zb_install_code_check(span_of(bytes, CODE_DIGITS / 2)) == ZB_OK;
    }
    OPENSSL_cleanse(bytes, sizeof bytes);
    return found;
}

/* NULL: out is filled in. */
static const char *read_label(const struct text *t, struct found *f, struct zb_label *out, size_t *at, enum zb_err *e)
{
    if (!recognise(t, f))
        return "unknown-format";
    if (f->neuis > 1)
        return "two-eui64s";
    if (f->ncodes > 1)
        return "two-codes";
    if (f->eui.n == 0)
        return "no-eui64";
    if (f->code.n == 0)
        return "no-code";
    if ((*e = eui_read(t, &f->eui, &out->eui64)) != ZB_OK) {
        *at = f->eui.bad;
        return *e == ZB_BAD_HEX ? zb_err_name(*e) : "bad-eui64";
    }
    if ((*e = code_read(t, f, out)) != ZB_OK) {
        *at = *e == ZB_BAD_HEX ? f->code.bad : 0;
        return zb_err_name(*e);
    }
    return another_code(t, &f->code) ? "two-codes" : NULL;
}

enum zb_err zb_label_parse(const char *text, struct zb_label *out, const char **why, size_t *at)
{
    struct text t = {.n = 0};
    struct found f = {0};
    enum zb_err e = ZB_MALFORMED;
    *out = (struct zb_label){0};
    *at = 0;
    *why = unwrap(text, &t) ? read_label(&t, &f, out, at, &e) : "unknown-format";
    if (*why != NULL)
        OPENSSL_cleanse(out, sizeof *out);
    OPENSSL_cleanse(&t, sizeof t);
    return *why == NULL ? ZB_OK : e != ZB_OK ? e : ZB_MALFORMED;
}
