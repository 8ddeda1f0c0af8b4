/* `mefctl zigbee`: reads lines from stdin, answers each in order on stdout. */
#include "mef-plugin/mefctl/mefctl.h"
#include "mef-plugin/mefctl/zigbee_line.h"
#include <errno.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { IN_MAX = 4 * ZB_LINE_MAX, OUT_MAX = 8 * ZB_ANSWER_MAX };

/* The two buffers of the dialogue. Both may hold keys and are wiped at the end. */
struct dialogue {
    struct zb_line *z;
    const struct zb_verb *verb;
    size_t have;   /* bytes in `in` */
    bool skipping; /* inside a line that was too long, already answered */
    struct wr out;
    uint8_t in[IN_MAX];
    uint8_t out_bytes[OUT_MAX];
};

static bool flush(struct dialogue *d)
{
    for (size_t done = 0; done < d->out.n;) {
        ssize_t n = write(STDOUT_FILENO, d->out.p + done, d->out.n - done);
        if (n < 0 && errno != EINTR)
            return false;
        done += n > 0 ? (size_t)n : 0;
    }
    d->out = wr_of(d->out_bytes, sizeof d->out_bytes);
    return true;
}

static bool answer(struct dialogue *d, struct span line)
{
    if (d->out.cap - d->out.n < ZB_ANSWER_MAX && !flush(d))
        return false;
    zb_line_answer(d->z, d->verb, line, &d->out);
    return true;
}

/* Answer every complete line of `in` and move the rest to its front. */
static bool answer_lines(struct dialogue *d)
{
    uint8_t *from = d->in, *end = d->in + d->have;
    for (uint8_t *nl; (nl = memchr(from, '\n', (size_t)(end - from))) != NULL; from = nl + 1) {
        if (!d->skipping && !answer(d, span_of(from, (size_t)(nl - from))))
            return false;
        d->skipping = false;
    }
    d->have = (size_t)(end - from);
    memmove(d->in, from, d->have);
    if (d->have > ZB_LINE_MAX) {
        if (!d->skipping && !answer(d, span_of(d->in, d->have)))
            return false;
        d->skipping = true;
        d->have = 0;
    }
    return true;
}

/* Whoever waits for an answer before the next line gets it: output is held back only while more input is there. */
static bool input_pending(void)
{
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    return poll(&p, 1, 0) == 1 && (p.revents & POLLIN) != 0;
}

static bool converse(struct dialogue *d)
{
    d->out = wr_of(d->out_bytes, sizeof d->out_bytes);
    for (;;) {
        if (!input_pending() && !flush(d))
            return false;
        ssize_t n = read(STDIN_FILENO, d->in + d->have, sizeof d->in - d->have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n == 0 && (d->have == 0 || d->skipping || answer(d, span_of(d->in, d->have))) && flush(d);
        d->have += (size_t)n;
        if (!answer_lines(d))
            return false;
    }
}

static int usage(FILE *to, int status)
{
    fprintf(to, "Usage: mefctl zigbee VERB < LINES\n\n"
                "Reads one JSON object a line, writes one a line, in order. Verbs:\n");
    for (size_t i = 0; zb_verb_at(i) != NULL; i++)
        fprintf(to, "  %-10s %s\n", zb_verb_at(i)->name, zb_verb_at(i)->help);
    fprintf(to, "\nA bad line is answered with an error, it ends nothing. Keys are read from stdin only.\n");
    return status;
}

int mefctl_zigbee(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--help") == 0)
        return usage(stdout, MEFCTL_OK);
    const struct zb_verb *verb = argc == 2 ? zb_verb_find(argv[1]) : NULL;
    if (verb == NULL)
        return usage(stderr, MEFCTL_USAGE);

    struct dialogue *d = calloc(1, sizeof *d);
    struct zb_line *z = zb_line_new();
    bool ok = d != NULL && z != NULL;
    if (ok) {
        d->z = z;
        d->verb = verb;
        ok = converse(d);
    }
    if (!ok)
        fprintf(stderr, "mefctl: zigbee %s: %s\n", verb->name, errno != 0 ? strerror(errno) : "no AES in OpenSSL");
    zb_line_free(z);
    if (d != NULL)
        OPENSSL_cleanse(d, sizeof *d);
    free(d);
    return ok ? MEFCTL_OK : MEFCTL_FAILED;
}
