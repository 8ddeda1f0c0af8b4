/* Bounded cursors: the only way this project reads or writes wire bytes.
 *
 * A `span` borrows bytes and never outlives the call it is handed to. An `rd` consumes a span from the front; every
 * rd_* returns false, and leaves the reader where it was, when too few bytes are left. A `wr` fills a caller's buffer;
 * the first write that does not fit sets `overflow`, later ones do nothing, and wr_ok() tells. So a parser is one
 * `&&` chain and a builder is a straight list closed by one wr_ok(). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MUST_USE __attribute__((warn_unused_result))

struct span {
    const uint8_t *p;
    size_t n;
};

static inline struct span span_of(const void *p, size_t n) { return (struct span){(const uint8_t *)p, n}; }
static inline struct span span_str(const char *s) { return span_of(s, strlen(s)); }
static inline bool span_eq(struct span a, struct span b) { return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0); }

struct rd {
    const uint8_t *p;
    size_t n;
};

static inline struct rd rd_of(struct span s) { return (struct rd){s.p, s.n}; }
static inline bool rd_end(const struct rd *r) { return r->n == 0; }
static inline struct span rd_rest(const struct rd *r) { return span_of(r->p, r->n); }

/* Borrow the next n bytes. */
static inline MUST_USE bool rd_span(struct rd *r, size_t n, struct span *out)
{
    if (r->n < n)
        return false;
    *out = span_of(r->p, n);
    r->p += n;
    r->n -= n;
    return true;
}

/* Copy the next n bytes to dst. */
static inline MUST_USE bool rd_bytes(struct rd *r, void *dst, size_t n)
{
    struct span s;
    if (!rd_span(r, n, &s))
        return false;
    if (n != 0)
        memcpy(dst, s.p, n);
    return true;
}

static inline MUST_USE bool rd_le(struct rd *r, size_t n, uint64_t *v)
{
    struct span s;
    if (!rd_span(r, n, &s))
        return false;
    *v = 0;
    for (size_t i = n; i-- > 0;)
        *v = *v << 8 | s.p[i];
    return true;
}
static inline MUST_USE bool rd_be(struct rd *r, size_t n, uint64_t *v)
{
    struct span s;
    if (!rd_span(r, n, &s))
        return false;
    *v = 0;
    for (size_t i = 0; i < n; i++)
        *v = *v << 8 | s.p[i];
    return true;
}
static inline MUST_USE bool rd_u8(struct rd *r, uint8_t *v)
{
    uint64_t x;
    bool ok = rd_le(r, 1, &x);
    if (ok)
        *v = (uint8_t)x;
    return ok;
}
static inline MUST_USE bool rd_le16(struct rd *r, uint16_t *v)
{
    uint64_t x;
    bool ok = rd_le(r, 2, &x);
    if (ok)
        *v = (uint16_t)x;
    return ok;
}
static inline MUST_USE bool rd_le32(struct rd *r, uint32_t *v)
{
    uint64_t x;
    bool ok = rd_le(r, 4, &x);
    if (ok)
        *v = (uint32_t)x;
    return ok;
}
static inline MUST_USE bool rd_le64(struct rd *r, uint64_t *v) { return rd_le(r, 8, v); }
static inline MUST_USE bool rd_be16(struct rd *r, uint16_t *v)
{
    uint64_t x;
    bool ok = rd_be(r, 2, &x);
    if (ok)
        *v = (uint16_t)x;
    return ok;
}
static inline MUST_USE bool rd_be32(struct rd *r, uint32_t *v)
{
    uint64_t x;
    bool ok = rd_be(r, 4, &x);
    if (ok)
        *v = (uint32_t)x;
    return ok;
}
static inline MUST_USE bool rd_be64(struct rd *r, uint64_t *v) { return rd_be(r, 8, v); }

struct wr {
    uint8_t *p;   /* the caller's buffer */
    size_t n;     /* bytes written */
    size_t cap;   /* bytes the buffer holds */
    bool overflow;
};

static inline struct wr wr_of(void *p, size_t cap) { return (struct wr){(uint8_t *)p, 0, cap, false}; }
static inline MUST_USE bool wr_ok(const struct wr *w) { return !w->overflow; }
static inline struct span wr_span(const struct wr *w) { return span_of(w->p, w->n); }

/* Reserve n bytes to be filled later; NULL on overflow. */
static inline uint8_t *wr_reserve(struct wr *w, size_t n)
{
    if (w->overflow || w->cap - w->n < n) {
        w->overflow = true;
        return NULL;
    }
    uint8_t *p = w->p + w->n;
    w->n += n;
    return p;
}
static inline void wr_bytes(struct wr *w, const void *src, size_t n)
{
    uint8_t *p = wr_reserve(w, n);
    if (n != 0 && src == NULL) /* no such span; build nothing from it */
        w->overflow = true;
    else if (p != NULL && n != 0)
        memcpy(p, src, n);
}
static inline void wr_spanb(struct wr *w, struct span s) { wr_bytes(w, s.p, s.n); }
static inline void wr_le(struct wr *w, size_t n, uint64_t v)
{
    uint8_t *p = wr_reserve(w, n);
    for (size_t i = 0; p != NULL && i < n; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}
static inline void wr_be(struct wr *w, size_t n, uint64_t v)
{
    uint8_t *p = wr_reserve(w, n);
    for (size_t i = 0; p != NULL && i < n; i++)
        p[i] = (uint8_t)(v >> (8 * (n - 1 - i)));
}
static inline void wr_u8(struct wr *w, uint8_t v) { wr_le(w, 1, v); }
static inline void wr_le16(struct wr *w, uint16_t v) { wr_le(w, 2, v); }
static inline void wr_le32(struct wr *w, uint32_t v) { wr_le(w, 4, v); }
static inline void wr_le64(struct wr *w, uint64_t v) { wr_le(w, 8, v); }
static inline void wr_be16(struct wr *w, uint16_t v) { wr_be(w, 2, v); }
static inline void wr_be32(struct wr *w, uint32_t v) { wr_be(w, 4, v); }
static inline void wr_be64(struct wr *w, uint64_t v) { wr_be(w, 8, v); }
