#include "cse-shim/host/cbor_tree.h"

#include "cse-shim/host/json.h"

#include <cbor.h>
#include <math.h>
#include <openssl/evp.h>

#define TAG_SELF_DESCRIBED 55799
#define MAX_EXACT (UINT64_C(1) << 53) /* up to here a double holds every integer */
#define HEAD_MAX 9                    /* bytes of the longest item head */

/* --- one item at a time: what libcbor's decoder calls back with ------------------------------------------------------ */

enum kind { BAD, UINT, NEGINT, REAL, TEXT, BYTES, ARRAY, MAP, TAG, TRUTH, NOTHING, BREAK };

struct item {
    enum kind kind;
    uint64_t n;        /* value of an integer, number of elements, tag */
    bool indefinite;
    double real;
    struct span bytes; /* of a string of definite length, within the body */
};

/* clang-format off */
static void on_u8(void *u, uint8_t v) { *(struct item *)u = (struct item){.kind = UINT, .n = v}; }
static void on_u16(void *u, uint16_t v) { *(struct item *)u = (struct item){.kind = UINT, .n = v}; }
static void on_u32(void *u, uint32_t v) { *(struct item *)u = (struct item){.kind = UINT, .n = v}; }
static void on_u64(void *u, uint64_t v) { *(struct item *)u = (struct item){.kind = UINT, .n = v}; }
static void on_n8(void *u, uint8_t v) { *(struct item *)u = (struct item){.kind = NEGINT, .n = v}; }
static void on_n16(void *u, uint16_t v) { *(struct item *)u = (struct item){.kind = NEGINT, .n = v}; }
static void on_n32(void *u, uint32_t v) { *(struct item *)u = (struct item){.kind = NEGINT, .n = v}; }
static void on_n64(void *u, uint64_t v) { *(struct item *)u = (struct item){.kind = NEGINT, .n = v}; }
static void on_bytes(void *u, cbor_data p, size_t n) { *(struct item *)u = (struct item){.kind = BYTES, .bytes = {p, n}}; }
static void on_text(void *u, cbor_data p, size_t n) { *(struct item *)u = (struct item){.kind = TEXT, .bytes = {p, n}}; }
static void on_bytes_open(void *u) { *(struct item *)u = (struct item){.kind = BYTES, .indefinite = true}; }
static void on_text_open(void *u) { *(struct item *)u = (struct item){.kind = TEXT, .indefinite = true}; }
static void on_array(void *u, size_t n) { *(struct item *)u = (struct item){.kind = ARRAY, .n = n}; }
static void on_array_open(void *u) { *(struct item *)u = (struct item){.kind = ARRAY, .indefinite = true}; }
static void on_map(void *u, size_t n) { *(struct item *)u = (struct item){.kind = MAP, .n = n}; }
static void on_map_open(void *u) { *(struct item *)u = (struct item){.kind = MAP, .indefinite = true}; }
static void on_tag(void *u, uint64_t v) { *(struct item *)u = (struct item){.kind = TAG, .n = v}; }
static void on_float(void *u, float v) { *(struct item *)u = (struct item){.kind = REAL, .real = (double)v}; }
static void on_double(void *u, double v) { *(struct item *)u = (struct item){.kind = REAL, .real = v}; }
static void on_bool(void *u, bool v) { *(struct item *)u = (struct item){.kind = TRUTH, .n = v}; }
static void on_null(void *u) { *(struct item *)u = (struct item){.kind = NOTHING}; }
static void on_undefined(void *u) { *(struct item *)u = (struct item){.kind = BAD}; }
static void on_break(void *u) { *(struct item *)u = (struct item){.kind = BREAK}; }
/* clang-format on */

static const struct cbor_callbacks callbacks = {
    .uint8 = on_u8, .uint16 = on_u16, .uint32 = on_u32, .uint64 = on_u64,
    .negint8 = on_n8, .negint16 = on_n16, .negint32 = on_n32, .negint64 = on_n64,
    .byte_string_start = on_bytes_open, .byte_string = on_bytes, .string = on_text, .string_start = on_text_open,
    .indef_array_start = on_array_open, .array_start = on_array, .indef_map_start = on_map_open, .map_start = on_map,
    .tag = on_tag, .float2 = on_float, .float4 = on_float, .float8 = on_double,
    .undefined = on_undefined, .null = on_null, .boolean = on_bool, .indef_break = on_break};

struct decoder {
    struct rd in;
    unsigned items;
    const char *why;
};

static void *refuse(struct decoder *d, const char *why)
{
    if (d->why == NULL)
        d->why = why;
    return NULL;
}

static bool next(struct decoder *d, struct item *it)
{
    struct span used;
    *it = (struct item){.kind = BAD};
    struct cbor_decoder_result r = cbor_stream_decode(d->in.p, d->in.n, &callbacks, it);
    if (r.status == CBOR_DECODER_FINISHED && it->kind != BAD && rd_span(&d->in, r.read, &used))
        return true;
    refuse(d, "the body is not well-formed CBOR, or holds a value that JSON has not");
    return false;
}

/* --- strings --------------------------------------------------------------------------------------------------------- */

/* The whole of a string, its pieces joined where the length is indefinite, with a NUL behind. Free with cJSON_free(). */
static uint8_t *join(struct decoder *d, const struct item *first, size_t *n)
{
    struct item piece = *first;
    uint8_t *out = cJSON_malloc((first->indefinite ? d->in.n : first->bytes.n) + 1);
    *n = 0;
    if (out == NULL)
        return refuse(d, "out of memory");
    do {
        if (first->indefinite && (!next(d, &piece) || piece.kind == BREAK))
            break;
        if (piece.kind != first->kind || piece.indefinite || (piece.kind == TEXT && !utf8_valid(piece.bytes))) {
            refuse(d, "a text of the body is not valid UTF-8, or a string is broken");
            break;
        }
        if (piece.bytes.n != 0)
            memcpy(out + *n, piece.bytes.p, piece.bytes.n);
        *n += piece.bytes.n;
    } while (first->indefinite);
    out[*n] = '\0';
    if (d->why == NULL)
        return out;
    cJSON_free(out);
    return NULL;
}

/* A text item as cJSON keeps it. */
static char *take_text(struct decoder *d, const struct item *it)
{
    size_t n;
    return it->kind == TEXT ? (char *)join(d, it, &n) : refuse(d, "a member's name must be text");
}

static cJSON *read_string(struct decoder *d, const struct item *it)
{
    size_t n;
    uint8_t *raw = join(d, it, &n), *text = raw;
    if (raw != NULL && it->kind == BYTES) {
        text = cJSON_malloc(4 * (n / 3 + 1) + 1);
        if (text != NULL)
            (void)EVP_EncodeBlock(text, raw, (int)n); /* a body is far smaller than INT_MAX */
        cJSON_free(raw);
    }
    cJSON *value = text == NULL ? NULL : cJSON_CreateString((const char *)text);
    cJSON_free(text);
    return value;
}

/* --- values ---------------------------------------------------------------------------------------------------------- */

static cJSON *read_value(struct decoder *d, const struct item *it, int depth);

/* The next element, or the end: false, and *it is a BREAK or bad. */
static bool more(struct decoder *d, const struct item *head, uint64_t done, struct item *it)
{
    if (!head->indefinite && done == head->n)
        return false;
    return next(d, it) && !(head->indefinite && it->kind == BREAK);
}

static bool add_member(struct decoder *d, cJSON *object, const struct item *key, int depth)
{
    struct item it;
    char *name = take_text(d, key);
    cJSON *value = name == NULL || !next(d, &it) ? NULL : read_value(d, &it, depth);
    bool ok = value != NULL && cJSON_AddItemToObject(object, name, value);
    if (!ok)
        cJSON_Delete(value);
    cJSON_free(name);
    return ok;
}

static bool add_element(struct decoder *d, cJSON *array, const struct item *it, int depth)
{
    cJSON *value = read_value(d, it, depth);
    bool ok = value != NULL && cJSON_AddItemToArray(array, value);
    if (!ok)
        cJSON_Delete(value);
    return ok;
}

static cJSON *read_collection(struct decoder *d, const struct item *head, int depth)
{
    struct item it;
    if (depth > JSON_MAX_DEPTH)
        return refuse(d, "the body is nested too deeply");
    cJSON *tree = head->kind == MAP ? cJSON_CreateObject() : cJSON_CreateArray();
    bool ok = tree != NULL;
    for (uint64_t done = 0; ok && more(d, head, done, &it); done++) {
        if (head->kind == MAP)
            ok = done < JSON_MAX_MEMBERS ? add_member(d, tree, &it, depth + 1)
                                         : refuse(d, "an object of the body has too many members") != NULL;
        else
            ok = add_element(d, tree, &it, depth + 1);
    }
    if (ok && d->why == NULL)
        return tree;
    cJSON_Delete(tree);
    return refuse(d, "out of memory");
}

static cJSON *read_integer(struct decoder *d, const struct item *it)
{
    if (it->n > MAX_EXACT - (it->kind == NEGINT ? 1 : 0))
        return refuse(d, "an integer of the body is beyond 2^53");
    return cJSON_CreateNumber(it->kind == UINT ? (double)it->n : -1 - (double)it->n);
}

static cJSON *read_value(struct decoder *d, const struct item *it, int depth)
{
    if (++d->items > CBOR_MAX_ITEMS)
        return refuse(d, "the body holds too many items");
    switch (it->kind) {
    case UINT:
    case NEGINT:
        return read_integer(d, it);
    case REAL:
        return isfinite(it->real) ? cJSON_CreateNumber(it->real) : refuse(d, "a number of the body is not finite");
    case TEXT:
    case BYTES:
        return read_string(d, it);
    case ARRAY:
    case MAP:
        return read_collection(d, it, depth);
    case TRUTH:
        return cJSON_CreateBool(it->n != 0);
    case NOTHING:
        return cJSON_CreateNull();
    case TAG:
        return refuse(d, "tags are not understood here");
    default:
        return refuse(d, "the body is not well-formed CBOR");
    }
}

cJSON *cbor_parse(struct span body, const char **why)
{
    struct decoder d = {.in = rd_of(body)};
    struct item it;
    bool ok = next(&d, &it);
    if (ok && it.kind == TAG && it.n == TAG_SELF_DESCRIBED)
        ok = next(&d, &it);
    if (ok && it.kind != MAP && it.kind != ARRAY)
        refuse(&d, "the body must be a map or an array");
    cJSON *tree = ok && d.why == NULL ? read_value(&d, &it, 1) : NULL;
    if (tree != NULL && !rd_end(&d.in))
        refuse(&d, "something follows the body's one item");
    else if (tree != NULL && !json_sound(tree))
        refuse(&d, "the body repeats a member");
    *why = d.why == NULL ? "out of memory" : d.why;
    if (tree != NULL && d.why == NULL)
        return tree;
    cJSON_Delete(tree);
    return NULL;
}

/* --- printing -------------------------------------------------------------------------------------------------------- */

static size_t text_length(const char *s)
{
    return s == NULL ? 0 : strlen(s);
}

/* No tree needs more. */
static size_t bound(const cJSON *tree)
{
    size_t n = HEAD_MAX + text_length(tree->valuestring);
    if (tree->string != NULL)
        n += HEAD_MAX + strlen(tree->string);
    const cJSON *child;
    cJSON_ArrayForEach(child, tree) n += bound(child);
    return n;
}

static void put_text(struct wr *w, const char *text)
{
    uint8_t head[HEAD_MAX];
    wr_bytes(w, head, cbor_encode_string_start(strlen(text), head, sizeof head));
    wr_bytes(w, text, strlen(text));
}

static size_t encode_number(double v, uint8_t head[HEAD_MAX])
{
    if (trunc(v) == v && fabs(v) <= (double)MAX_EXACT)
        return v < 0 ? cbor_encode_negint((uint64_t)(-1 - (int64_t)v), head, HEAD_MAX)
                     : cbor_encode_uint((uint64_t)v, head, HEAD_MAX);
    bool single = fabs(v) <= (double)3.4e38f && (double)(float)v == v;
    return single ? cbor_encode_single((float)v, head, HEAD_MAX) : cbor_encode_double(v, head, HEAD_MAX);
}

static bool put_value(struct wr *w, const cJSON *tree)
{
    uint8_t head[HEAD_MAX];
    size_t n = 0;
    if (cJSON_IsString(tree)) {
        put_text(w, tree->valuestring);
        return true;
    }
    if (cJSON_IsNumber(tree))
        n = encode_number(tree->valuedouble, head);
    else if (cJSON_IsBool(tree))
        n = cbor_encode_bool(cJSON_IsTrue(tree) != 0, head, sizeof head);
    else if (cJSON_IsNull(tree))
        n = cbor_encode_null(head, sizeof head);
    else if (cJSON_IsObject(tree))
        n = cbor_encode_map_start((size_t)cJSON_GetArraySize(tree), head, sizeof head);
    else if (cJSON_IsArray(tree))
        n = cbor_encode_array_start((size_t)cJSON_GetArraySize(tree), head, sizeof head);
    wr_bytes(w, head, n);
    const cJSON *child;
    bool ok = n != 0;
    cJSON_ArrayForEach(child, tree) {
        if (ok && cJSON_IsObject(tree))
            put_text(w, child->string);
        ok = ok && put_value(w, child);
    }
    return ok;
}

uint8_t *cbor_print(const cJSON *tree, size_t *n)
{
    size_t cap = bound(tree);
    uint8_t *out = cJSON_malloc(cap);
    struct wr w = wr_of(out, cap);
    if (out != NULL && put_value(&w, tree) && wr_ok(&w)) {
        *n = w.n;
        return out;
    }
    cJSON_free(out);
    return NULL;
}
