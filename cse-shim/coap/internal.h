/* What the parts of the endpoint share. Layers, from the wire up:
 *   udp.c      sockets and addresses            session.c  sessions: table, LRU, DTLS handshakes
 *   message.c  CON/NON/ACK/RST, duplicates      client.c   requests sent
 *   server.c   requests received                block.c    bodies in pieces
 *   observe.c  observations served              endpoint.c putting it together
 *   group.c    endpoints of several threads that serve the same addresses */
#pragma once
#include "cse-shim/base/map64.h"
#include "cse-shim/coap/dtls.h"
#include "cse-shim/coap/pdu.h"
#include "cse-shim/coap/timer.h"

#include <netinet/in.h>
#include <sys/queue.h>

#define MS UINT64_C(1000)
#define SEC UINT64_C(1000000)
#define EXCHANGE_LIFETIME (247 * SEC) /* RFC 7252 4.8.2, default parameters */
#define EMPTY_ACK_DELAY (150 * MS)    /* a later answer goes out as a separate response */
#define HANDSHAKE_LIMIT (30 * SEC)
#define NSTART 8
#define MAX_PENDING 64         /* per session: exchanges, transfers' answers, queued notifications */
#define MAX_TRANSFERS 4        /* per session: bodies in pieces, each way */
#define MAX_ASSEMBLY (64u << 20) /* bytes of all bodies in pieces of an endpoint */
#define MAX_SEEN (1u << 17)    /* requests remembered for de-duplication, and bytes of their answers: */
#define MAX_SEEN_BYTES (32u << 20)

union address {
    struct sockaddr sa;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};

/* --- udp.c --- */

struct sock {
    struct cep_endpoint *ep;
    int fd;
    uint16_t index;              /* of a listening socket, in the order they were made; part of a path's key */
    bool secure;
    bool any;                    /* bound to all addresses: answers must name the one they leave from */
    struct cep_session *session; /* of a connected socket; NULL: listening */
    sd_event_source *source;
    LIST_ENTRY(sock) link;
};

struct path {
    struct sock *sock;
    union address addr;
    socklen_t addrlen;
    struct in6_addr local; /* where the peer reached us, on a socket with `any`; IPv4 in the first four bytes */
};

struct udp_batch; /* receive buffers of an endpoint */
struct udp_batch *udp_batch_new(void);
void udp_batch_free(struct udp_batch *b);
/* 0 or a negative errno. */
MUST_USE int udp_listen(struct cep_endpoint *ep, const char *host, uint16_t port, struct sock **out, uint16_t *bound);
MUST_USE int udp_connect(struct cep_endpoint *ep, const char *host, uint16_t port, struct sock **out, struct path *path);
void udp_close(struct sock *s);
void udp_send(const struct path *path, struct span datagram);
uint16_t bound_port(int fd); /* 0: not bound */
uint64_t path_key(const struct path *path, const uint64_t secret[4]);
bool path_eq(const struct path *a, const struct path *b);
struct span path_bytes(const struct path *path); /* what a cookie is bound to */

/* --- group.c: all do nothing, and allow everything, where there is no group --- */

/* The secret that cookies are derived from. */
const uint8_t *group_master(const struct cep_group *g);
/* Take part: mail comes in on the endpoint's loop. */
MUST_USE bool group_join(struct cep_endpoint *ep);
/* Bind the index-th listening socket beside those of the other members. 0 or a negative errno. Needs a group. */
MUST_USE int group_bind(struct cep_group *g, uint16_t index, int fd, union address *a, socklen_t len);
/* A session of that path is in our table from here on, until group_release(). False: another member has the path, or
 * out of memory. */
MUST_USE bool group_claim(struct cep_endpoint *ep, const struct path *path);
void group_release(struct cep_endpoint *ep, const struct path *path);
/* True: the path is another member's, to which the datagram went (or was lost on the way). */
MUST_USE bool group_pass_on(struct cep_endpoint *ep, const struct path *path, struct span datagram);

/* --- session.c --- */

enum session_state { SESSION_HANDSHAKE, SESSION_OPEN, SESSION_CLOSED };

struct tx;
struct request;
struct transfer;
struct observation;
struct seen;

/* Plain UDP: what the peer is to repeat to prove that it is where it says (RFC 9175 2). */
#define ECHO_LEN 6 /* a 4.01 with it is never larger than three times a request */
struct proof {
    uint8_t challenge[ECHO_LEN];
    uint64_t asked, until; /* when the challenge was made; how long the peer is believed; 0: never */
};

struct cep_session {
    unsigned refs;
    enum session_state state;
    bool client;
    struct cep_endpoint *ep;
    struct path path;
    struct cep_peer peer;
    char identity[DTLS_MAX_IDENTITY + 1];
    struct dtls *dtls;                /* NULL: plain */
    struct timer dtls_timer, limit;   /* retransmission; handshake takes too long */
    struct cep_session *live;         /* set on a shadow: the session to replace once the handshake is done */
    struct cep_session *shadow;       /* set on a live session while a new handshake of its peer runs */
    struct cep_session *same_key;     /* next in the table's chain */
    uint64_t last_used;
    TAILQ_ENTRY(cep_session) lru;     /* in ep->handshaking or ep->open[secure] */
    uint16_t next_mid;
    uint32_t next_tag;                /* of our requests in pieces */
    struct proof proof;
    TAILQ_HEAD(, tx) txs;             /* confirmable messages not yet acknowledged */
    TAILQ_HEAD(, request) waiting;    /* requests not yet begun */
    TAILQ_HEAD(, request) active;     /* requests begun, and observations */
    unsigned nactive;                 /* outstanding interactions (RFC 7252 4.7) */
    bool ordered;                     /* the one outstanding wants to be alone */
    LIST_HEAD(, cep_exchange) exchanges;
    unsigned nexchanges;
    LIST_HEAD(, observation) observations;
    unsigned nobservations;
    TAILQ_HEAD(, transfer) transfers;
    LIST_HEAD(, seen) seen;
};
TAILQ_HEAD(session_list, cep_session);

struct cep_session *session_ref(struct cep_session *s);
void session_unref(struct cep_session *s);
/* A datagram from `path`; `passed_on`: by another member of our group. */
void session_datagram(struct cep_endpoint *ep, const struct path *path, struct span datagram, bool passed_on);
/* A datagram for the session of a connected socket. */
void session_input(struct cep_session *s, struct span datagram);
void session_send(struct cep_session *s, struct span message);
void session_close(struct cep_session *s, bool notify);
struct cep_session *session_new(struct cep_endpoint *ep, const struct path *path, bool client);
void session_open(struct cep_session *s);
void session_step(struct cep_session *s, enum dtls_state st);
void session_expire(void *ep); /* idle timer */

/* --- message.c --- */

enum tx_end { TX_ACKED, TX_RESET, TX_TIMEOUT, TX_GONE };
/* `rsp`: the response piggybacked on the acknowledgement, or NULL. */
typedef void (*tx_fn)(void *user, enum tx_end end, const struct pdu *rsp);

void message_input(struct cep_session *s, struct span datagram);
/* Was this message handled before? If so the answer, as far as there is one, is sent again. */
bool message_duplicate(struct cep_session *s, const struct pdu *p);
uint16_t message_mid(struct cep_session *s);
/* Send a confirmable message built with message_mid(), retransmit it until it is acknowledged, and tell fn once.
 * NULL: out of memory (it was sent once all the same). */
struct tx *tx_send(struct cep_session *s, uint16_t mid, struct span bytes, tx_fn fn, void *user);
void tx_forget(struct tx *tx); /* stop; fn is not called */
/* When `tx` is due again, renew() may send another message in its place and return its tx, which goes on where the old
 * one was; the old one is then forgotten. NULL: repeat the old one. */
void tx_renewable(struct tx *tx, struct tx *(*renew)(void *user));
void tx_gone_all(struct cep_session *s);

/* Requests and confirmable responses seen: what was answered, for duplicates. */
struct seen {
    struct cep_session *session;
    uint64_t key, expires;
    bool acked;      /* an empty acknowledgement was sent */
    bool again;      /* a duplicate is a new request: a sensitive answer to a safe method */
    uint8_t *answer; /* NULL: none yet */
    size_t len;
    LIST_ENTRY(seen) of_session;
    TAILQ_ENTRY(seen) by_age;
};
TAILQ_HEAD(seen_list, seen);
struct seen *seen_find(struct cep_session *s, uint16_t mid);
struct seen *seen_add(struct cep_session *s, uint16_t mid); /* NULL: out of memory */
void seen_answer(struct cep_session *s, uint16_t mid, struct span bytes); /* keep a copy for duplicates */
void seen_again(struct cep_session *s, uint16_t mid);
void seen_drop_all(struct cep_session *s);
void seen_expire(void *ep);
void send_empty(struct cep_session *s, enum pdu_type type, uint16_t mid);

/* --- client.c --- */

/* A response arrived by itself (not on an acknowledgement): does anybody wait for it; take it in. */
bool client_knows(const struct cep_session *s, const struct token *token);
void client_response(struct cep_session *s, const struct pdu *p);
void client_pump(struct cep_session *s);    /* begin waiting requests as far as NSTART allows */
void client_end_all(struct cep_session *s); /* the session ended */
/* The token of the nth request begun; unchanged when there is none. For tests. */
void client_token(const struct cep_session *s, unsigned nth, uint8_t token[8]);

/* --- server.c --- */

#define SZX_MAX 6u /* 1,024 bytes */
struct block {
    uint32_t num;
    bool more;
    uint8_t szx;
};
static inline size_t block_size(uint8_t szx) { return (size_t)16 << szx; }
static inline uint32_t block_value(struct block b) { return b.num << 4 | (b.more ? 8u : 0u) | b.szx; }

struct cep_exchange {
    struct cep_session *session; /* referenced */
    uint16_t mid;
    bool confirmable, acked;
    size_t size;                 /* of the request on the wire */
    uint64_t observe;            /* asked for: the id it would get; 0: not */
    bool block1;                 /* the request came in pieces; block1_value is echoed */
    uint32_t block1_value;
    struct block block2;         /* piece of the response asked for */
    struct token token;
    struct message *req;
    uint64_t observation;        /* accepted */
    struct timer ack;
    LIST_ENTRY(cep_exchange) link;
};

void server_request(struct cep_session *s, const struct pdu *p);
void server_end_all(struct cep_session *s);
void server_drop_orphans(struct cep_endpoint *ep);

/* One response message, or notification, to be built: the piece `num` of size exponent `szx` of rsp's body. */
struct reply {
    enum pdu_type type;
    uint16_t mid;
    struct token token;
    const struct cep_message *rsp;
    const struct cep_option *observe, *last; /* NULL: none; `last` is Block1, or Size1 or Echo alone */
    uint32_t num;
    uint8_t szx;
};
/* Send it (confirmable ones by tx_send with fn and user, the tx goes to *tx). Returns true when the body has further
 * pieces. Nothing of the message stays in the endpoint's buffer. */
bool reply_send(struct cep_session *s, const struct reply *r, tx_fn fn, void *user, struct tx **tx);

/* --- block.c --- */

/* Absent: false. *bad: present but not valid (szx 7, too long). */
bool block_option(const struct cep_message *m, uint16_t num, struct block *out, bool *bad);
/* The largest size exponent <= want with which a message of `overhead` bytes apart from the piece fits the path. */
uint8_t block_fit(const struct cep_session *s, size_t overhead, uint8_t want);
/* The bytes of message `m` on the wire apart from its payload, with all the options the endpoint may add. */
size_t block_overhead(const struct cep_message *m);

/* A body growing piece by piece; all of an endpoint's count against MAX_ASSEMBLY. */
struct body {
    uint8_t *p;
    size_t len, cap;
};
enum assembly { ASSEMBLY_MORE, ASSEMBLY_DONE, ASSEMBLY_GAP, ASSEMBLY_TOO_LARGE, ASSEMBLY_NO_ROOM };
enum assembly body_append(struct cep_endpoint *ep, struct body *b, struct span piece); /* MORE when taken */
void body_wipe(struct cep_endpoint *ep, struct body *b);

/* A request body coming in, or a response body waiting to be fetched. */
struct transfer {
    struct cep_session *session;
    struct message *target; /* code and options of the request; its payload is empty */
    struct message *whole;  /* the response waiting; NULL: a request comes in */
    struct body body;       /* of the request, so far */
    struct timer life;
    TAILQ_ENTRY(transfer) link;
};
/* Take in one piece of a request. On DONE *t holds the body; release with transfer_free(). */
enum assembly block_collect(struct cep_session *s, const struct cep_message *req, struct block b, struct transfer **t);
/* Keep a response for the pieces still to be asked for; find it (NULL: not kept). */
void block_keep(struct cep_session *s, const struct cep_message *req, const struct cep_message *rsp);
const struct cep_message *block_kept(struct cep_session *s, const struct cep_message *req);
void transfer_free(struct transfer *t);
void block_drop_all(struct cep_session *s);

/* --- observe.c --- */

void observe_end_all(struct cep_session *s);
void observe_deregister(struct cep_session *s, const struct token *token); /* Observe: 1 (RFC 7641 3.6) */
void observe_reset(struct cep_session *s, uint16_t mid);                   /* RST to a NON notification */
/* The first response of an observation goes out: its sequence number; from now on notifications may follow. False: the
 * response is no success, or the observation is gone already; it is then over. */
bool observe_begin(struct cep_endpoint *ep, uint64_t observation, uint8_t code, uint32_t *seq);
void observe_flush(struct cep_endpoint *ep, uint64_t observation); /* send what waited for the first response */

/* --- endpoint.c --- */

struct cep_endpoint {
    sd_event *loop;
    struct cep_config cfg;
    struct cep_callbacks cb;
    struct cep_stats stats;
    struct timers timers;
    struct dtls_ctx *dtls;
    struct udp_batch *batch;
    sd_event_source *mail;          /* from the group */
    LIST_HEAD(, sock) socks;
    uint16_t next_sock;
    uint64_t secret[4];             /* of path_key() */
    struct map64 *by_path;          /* path_key -> chain of server sessions */
    struct map64 *by_serial;
    uint64_t next_serial;
    struct session_list handshaking, open[2]; /* oldest first; open[secure] */
    size_t nopen[2];
    struct timer idle;
    struct map64 *requests;         /* token -> request */
    LIST_HEAD(, cep_exchange) orphans; /* exchanges whose session is gone */
    struct map64 *observations;
    uint64_t next_observation;
    struct map64 *txs;              /* serial and message id -> tx */
    struct map64 *seen;             /* the same of messages received */
    struct seen_list seen_age;
    size_t seen_bytes;
    struct timer seen_timer;
    struct timer recheck;
    uint64_t *unchecked;            /* serials of sessions whose certificate is to be looked at again */
    size_t nunchecked;
    size_t assembly;                /* bytes of bodies in pieces */
    bool closing;                   /* cep_endpoint_free(): no callback any more */
    uint8_t plain[16640];           /* one DTLS record's content */
    uint8_t out[PDU_MAX];           /* one message being built */
    size_t out_len;
};

uint64_t random64(void);
/* The nth session or observation: the low bits name the member, see cep_member(). */
static inline uint64_t cep_id(const struct cep_endpoint *ep, uint64_t n) { return n * CEP_MAX_MEMBERS + ep->cfg.member; }
