/* The least DTLS server that OpenSSL allows: a stateless cookie, a hash of peers, PSK or certificates of both sides, an answer
 * of its own for each datagram, and nothing else. What mefd's handshakes are measured against.
 *   dtls_server HEXKEY                       on a free port of 127.0.0.1, printed; until killed
 *   dtls_server CERTIFICATE KEY ANCHORS      the same; PEM files
 * One UDP socket serves all peers; OpenSSL sees a pair of memory BIOs. No retransmission timers, no limits, no clean-up of
 * peers that fall silent: what a server needs beside this is what the measured ratio is about. */
#include "cse-shim/base/bytes.h"
#include "cse-shim/base/hex.h"

#include <arpa/inet.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { BUCKETS = 4096, COOKIE = 16, ANSWER_HEADER = 4, TOKEN_BITS = 0x0f };

struct peer {
    struct peer *next;
    struct sockaddr_in addr;
    SSL *ssl;
    BIO *in, *out; /* owned by ssl */
};

static struct server {
    int fd;
    SSL_CTX *ctx;
    EVP_MAC_CTX *mac;
    uint8_t key[64];
    size_t keylen;
    struct peer *buckets[BUCKETS];
    struct peer *fresh; /* takes the next ClientHello */
    struct sockaddr_in from;
} server;

static int cookie_make(SSL *ssl, unsigned char *cookie, unsigned *len)
{
    uint8_t mac[32];
    size_t n = 0;
    (void)ssl;
    *len = COOKIE;
    bool ok = EVP_MAC_init(server.mac, NULL, 0, NULL) == 1 &&
              EVP_MAC_update(server.mac, (const uint8_t *)&server.from, sizeof server.from) == 1 &&
              EVP_MAC_final(server.mac, mac, &n, sizeof mac) == 1;
    memcpy(cookie, mac, COOKIE);
    return ok;
}

static int cookie_verify(SSL *ssl, const unsigned char *cookie, unsigned len)
{
    uint8_t want[32];
    unsigned n;
    return cookie_make(ssl, want, &n) && len == n && CRYPTO_memcmp(want, cookie, n) == 0;
}

static unsigned psk(SSL *ssl, const char *identity, unsigned char *key, unsigned cap)
{
    (void)ssl, (void)identity;
    if (server.keylen > cap)
        return 0;
    memcpy(key, server.key, server.keylen);
    return (unsigned)server.keylen;
}

static struct peer *peer_new(void)
{
    struct peer *p = calloc(1, sizeof *p);
    if (p == NULL || (p->ssl = SSL_new(server.ctx)) == NULL)
        exit(1);
    p->in = BIO_new(BIO_s_mem());
    p->out = BIO_new(BIO_s_mem());
    BIO_set_mem_eof_return(p->in, -1);
    BIO_set_mem_eof_return(p->out, -1);
    SSL_set_bio(p->ssl, p->in, p->out);
    SSL_set_accept_state(p->ssl);
    DTLS_set_link_mtu(p->ssl, 1400);
    return p;
}

static struct peer **peer_slot(const struct sockaddr_in *a)
{
    struct peer **at = &server.buckets[(ntohs(a->sin_port) * 2654435761u ^ a->sin_addr.s_addr) % BUCKETS];
    while (*at != NULL && ((*at)->addr.sin_port != a->sin_port || (*at)->addr.sin_addr.s_addr != a->sin_addr.s_addr))
        at = &(*at)->next;
    return at;
}

static void flush(struct peer *p)
{
    char *bytes;
    long n = BIO_get_mem_data(p->out, &bytes);
    if (n > 0 && sendto(server.fd, bytes, (size_t)n, 0, (struct sockaddr *)&server.from, sizeof server.from) < 0)
        perror("sendto");
    (void)BIO_reset(p->out);
}

/* The request's message id and token come back as an acknowledged 2.05 with `echo`: a CoAP client takes it for an answer. */
static void answer(struct peer *p, uint8_t *msg, int n)
{
    int head = ANSWER_HEADER + (msg[0] & TOKEN_BITS);
    if (n < head)
        return;
    msg[0] = (uint8_t)(0x60 | (msg[0] & TOKEN_BITS));
    msg[1] = 0x45;
    memcpy(msg + head, "\xff" "echo", 5);
    SSL_write(p->ssl, msg, head + 5);
}

static void serve(struct peer **slot, const uint8_t *datagram, size_t n)
{
    struct peer *p = *slot;
    uint8_t msg[2048];
    BIO_write(p->in, datagram, (int)n);
    for (int got; (got = SSL_read(p->ssl, msg, sizeof msg - 16)) > 0;)
        answer(p, msg, got);
    bool over = (SSL_get_shutdown(p->ssl) & SSL_RECEIVED_SHUTDOWN) != 0;
    if (over)
        SSL_shutdown(p->ssl);
    flush(p);
    if (over) {
        *slot = p->next;
        SSL_free(p->ssl);
        free(p);
    }
}

/* A stranger's datagram: nothing is kept unless it brings a good cookie. */
static void greet(struct peer **slot, const uint8_t *datagram, size_t n)
{
    struct peer *p = server.fresh;
    BIO_ADDR *unused = BIO_ADDR_new();
    BIO_write(p->in, datagram, (int)n);
    int good = DTLSv1_listen(p->ssl, unused);
    BIO_ADDR_free(unused);
    if (good > 0) {
        p->addr = server.from;
        *slot = p;
        server.fresh = peer_new();
        SSL_accept(p->ssl);
    }
    flush(p);
    if (good <= 0)
        (void)BIO_reset(p->in);
}

static bool set_up_cookies(void)
{
    char digest[] = "SHA256";
    uint8_t secret[32];
    const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string("digest", digest, 0), OSSL_PARAM_construct_end()};
    EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    return hmac != NULL && RAND_bytes(secret, sizeof secret) == 1 && (server.mac = EVP_MAC_CTX_new(hmac)) != NULL &&
           EVP_MAC_init(server.mac, secret, sizeof secret, params) == 1;
}

/* The suites are what mefd picks. */
static bool set_up_psk(const char *hexkey)
{
    server.keylen = strlen(hexkey) / 2;
    SSL_CTX_set_psk_server_callback(server.ctx, psk);
    return server.keylen <= sizeof server.key && hex_decode(hexkey, strlen(hexkey), server.key, server.keylen) &&
           SSL_CTX_set_cipher_list(server.ctx, "PSK-AES128-CCM8:@SECLEVEL=0") == 1;
}

static bool set_up_certificates(char **files)
{
    SSL_CTX_set_verify(server.ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    return SSL_CTX_set_cipher_list(server.ctx, "ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0") == 1 &&
           SSL_CTX_use_certificate_chain_file(server.ctx, files[0]) == 1 &&
           SSL_CTX_use_PrivateKey_file(server.ctx, files[1], SSL_FILETYPE_PEM) == 1 &&
           SSL_CTX_load_verify_locations(server.ctx, files[2], NULL) == 1;
}

static bool set_up(int n, char **how)
{
    server.ctx = SSL_CTX_new(DTLS_server_method());
    if (server.ctx == NULL || (n != 1 && n != 3) || !(n == 1 ? set_up_psk(how[0]) : set_up_certificates(how)) ||
        !set_up_cookies())
        return false;
    SSL_CTX_set_min_proto_version(server.ctx, DTLS1_2_VERSION);
    SSL_CTX_set_options(server.ctx, SSL_OP_NO_TICKET | SSL_OP_NO_QUERY_MTU | SSL_OP_COOKIE_EXCHANGE);
    SSL_CTX_set_session_cache_mode(server.ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_cookie_generate_cb(server.ctx, cookie_make);
    SSL_CTX_set_cookie_verify_cb(server.ctx, cookie_verify);
    server.fresh = peer_new();
    return true;
}

int main(int argc, char **argv)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    uint8_t datagram[2048];
    server.fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (!set_up(argc - 1, argv + 1) || bind(server.fd, (struct sockaddr *)&addr, len) < 0 ||
        getsockname(server.fd, (struct sockaddr *)&addr, &len) < 0)
        return 1;
    printf("%u\n", ntohs(addr.sin_port));
    fflush(stdout);
    for (ssize_t n; (len = sizeof server.from, n = recvfrom(server.fd, datagram, sizeof datagram, 0,
                                                            (struct sockaddr *)&server.from, &len)) >= 0;) {
        struct peer **slot = peer_slot(&server.from);
        (*slot == NULL ? greet : serve)(slot, datagram, (size_t)n);
    }
    return 1;
}
