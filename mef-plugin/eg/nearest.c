/* The registration that a stranger's EUI-64 is probably a slip of. An EUI-64 has no checksum: a typo in a registration looks
 * like a stranger at the gateway, and like a device that never comes.
 *
 * Near is what one or two slips of a typist apart is: a digit wrong, two neighbours swapped, a digit left out and one too
 * many elsewhere; also the eight bytes back to front, as some labels print them. All EUI-64s so near are looked up, at most
 * 36,000 whatever number is registered: some milliseconds, under a rate (docs/performance.md). */
#include "mef-plugin/eg/internal.h"

#define DIGITS 16
#define RATE 2 /* searches a second for two slips, of all stakeholders together */
#define BURST 2

struct search {
    const struct eg *e;
    const char *admin;
    eui64_t asked, found; /* found: 0 as long as nothing is */
};

static unsigned digit(eui64_t eui, unsigned at)
{
    return (unsigned)(eui >> (4 * at)) & 15;
}

static eui64_t swap(eui64_t eui, unsigned at)
{
    eui64_t differ = digit(eui, at) ^ digit(eui, at + 1);
    return eui ^ differ << (4 * at) ^ differ << (4 * at + 4);
}

static bool look_up(struct search *s, eui64_t eui)
{
    const void *r = eui != s->asked ? map64_get(s->e->codes, eui) : NULL;
    if (r != NULL && registration_own(r, s->admin))
        s->found = eui;
    return s->found != 0;
}

/* One digit wrong, at `from` or above. */
static bool one_wrong(struct search *s, eui64_t eui, unsigned from)
{
    for (unsigned at = from; at < DIGITS; at++)
        for (eui64_t differ = 1; differ < 16; differ++)
            if (look_up(s, eui ^ differ << (4 * at)))
                return true;
    return false;
}

static bool one_swap(struct search *s, eui64_t eui)
{
    for (unsigned at = 0; at + 1 < DIGITS; at++)
        if (look_up(s, swap(eui, at)))
            return true;
    return false;
}

static bool back_to_front(struct search *s)
{
    return look_up(s, __builtin_bswap64(s->asked));
}

static bool two_wrong(struct search *s)
{
    for (unsigned at = 0; at + 1 < DIGITS; at++)
        for (eui64_t differ = 1; differ < 16; differ++)
            if (one_wrong(s, s->asked ^ differ << (4 * at), at + 1))
                return true;
    return false;
}

/* A swap, and a second slip. */
static bool swap_and_more(struct search *s)
{
    for (unsigned at = 0; at + 1 < DIGITS; at++) {
        eui64_t eui = swap(s->asked, at);
        if (eui != s->asked && (one_swap(s, eui) || one_wrong(s, eui, 0)))
            return true;
    }
    return false;
}

/* A digit left out, and one too many elsewhere: what is between them has moved by one. */
static bool moved(struct search *s)
{
    for (unsigned out = 0; out < DIGITS; out++) {
        eui64_t below = s->asked & (((eui64_t)1 << (4 * out)) - 1);
        eui64_t rest = (s->asked >> (4 * out) >> 4) << (4 * out) | below; /* 15 digits */
        for (unsigned in = 0; in < DIGITS; in++)
            for (eui64_t d = 0; d < 16; d++) {
                eui64_t low = rest & (((eui64_t)1 << (4 * in)) - 1);
                if (look_up(s, (rest >> (4 * in)) << (4 * in) << 4 | d << (4 * in) | low))
                    return true;
            }
    }
    return false;
}

eui64_t nearest_registered(struct eg *e, const char *admin, eui64_t eui)
{
    struct search s = {e, admin, eui, 0};
    if (one_swap(&s, eui) || one_wrong(&s, eui, 0) || back_to_front(&s))
        return s.found;
    if (bucket_take(&e->nearest_rate, eg_now(e), RATE, BURST, 1))
        (void)(swap_and_more(&s) || two_wrong(&s) || moved(&s));
    return s.found;
}
