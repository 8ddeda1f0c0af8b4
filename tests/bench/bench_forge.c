/* What forging the frame that carries a first network key costs beside the primitives in it: five AES blocks of HMAC-MMO,
 * one CCM*, and in the vault two keys unsealed (AES-256-GCM); bare OpenSSL, contexts fetched once, in turns with ours.
 * The bare side computes the same bytes, which is checked. Prints one JSON object, microseconds a frame.
 * Usage: bench_forge [REPETITIONS [FRAMES]], in a folder that can be written */
#include "mef-plugin/vault/internal.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { NONCE = 13, COMMAND = 35, HEADERS = 8, CCM_AAD = 2 + 13, GCM_NONCE = 12, REPETITIONS_MAX = 100 };

static const uint8_t link_key[ZB_KEY] = "the link key 16", network_key[ZB_KEY] = "network key 16.";
static const eui64_t gateway = 0x00124b001ca1b2c3u, device = 0x00158d0003123456u;
static const struct zb_nwk head = {.fcf = 0x0008, .dst = 0x1f2e, .radius = 30, .seq = 7};

static void must(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "bench_forge: %s\n", what);
        exit(1);
    }
}

static double cpu_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* --- ours --------------------------------------------------------------------------------------------------------- */

struct ours {
    struct zb_crypto *zb;
    struct vault *vault;
    struct zb_cmd cmd;
    struct vault_aps_command in;
    uint8_t frame[ZB_NWK_MAX];
};

static void codec(struct ours *o)
{
    uint8_t buf[COMMAND];
    struct wr w = wr_of(o->frame, sizeof o->frame), command = wr_of(buf, sizeof buf);
    const struct zb_aps aps = {.fcf = ZB_APS_COMMAND, .counter = 7};
    zb_nwk_build(&w, &head);
    must(zb_cmd_build(&command, &o->cmd) == ZB_OK &&
             zb_aps_seal(o->zb, link_key, &aps, ZB_KEY_ID_TRANSPORT, 7, gateway, wr_span(&command), &w) == ZB_OK &&
             w.n == 62,
         "no frame");
}

static void in_vault(struct ours *o)
{
    struct wr w = wr_of(o->frame, sizeof o->frame);
    zb_nwk_build(&w, &head);
    must(vault_aps_command(o->vault, &o->in, &w) == ST_OK && w.n == 62, "no frame from the vault");
}

static bool random_bytes(void *user, void *out, size_t n) { return (void)user, RAND_bytes(out, (int)n) == 1; }
static void post(void *user, void (*fn)(void *), void *arg) { (void)user, (void)fn, (void)arg; } /* nobody waits */
static void fatal(void *user, const char *why) { (void)user, must(false, why); }

static struct store *open_vault(struct ours *o, const char *dir)
{
    char path[300], url[320], err[256] = "";
    uint8_t kek[SEAL_KEK] = {1};
    snprintf(path, sizeof path, "%s/kek", dir);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    must(fd >= 0 && write(fd, kek, sizeof kek) == sizeof kek && close(fd) == 0, path);
    snprintf(url, sizeof url, "sqlite:%s/db", dir);
    struct store *s = store_open(url, &(struct store_host){NULL, post, fatal}, err, sizeof err);
    must(s != NULL, err);
    o->vault = vault_open(s, path, &(struct vault_host){NULL, random_bytes}, err, sizeof err);
    must(o->vault != NULL, err);
    struct store_txn *t = store_begin(s);
    must(t != NULL && vault_import(o->vault, t, VAULT_LINK_KEY, span_of(link_key, ZB_KEY), &o->in.link_key) == ST_OK &&
             vault_import(o->vault, t, VAULT_NETWORK_KEY, span_of(network_key, ZB_KEY), &o->in.carried) == ST_OK,
         "the vault takes no keys");
    store_commit(t, NULL, NULL);
    unlink(path);
    return s;
}

/* --- bare --------------------------------------------------------------------------------------------------------- */

struct bare {
    EVP_CIPHER_CTX *ecb, *ccm, *gcm;
    uint8_t sealed[ZB_KEY], tag[16]; /* a key under the KEK, as the vault has two */
    uint8_t out[COMMAND + ZB_MIC];
};

static void block(struct bare *b, uint8_t h[ZB_KEY], const uint8_t m[ZB_KEY])
{
    uint8_t e[ZB_KEY];
    int n;
    must(EVP_EncryptInit_ex(b->ecb, NULL, NULL, h, NULL) == 1 && EVP_EncryptUpdate(b->ecb, e, &n, m, ZB_KEY) == 1, "ECB");
    for (int i = 0; i < ZB_KEY; i++)
        h[i] = e[i] ^ m[i];
}

static void derive(struct bare *b, uint8_t key[ZB_KEY])
{
    static const uint8_t message[ZB_KEY] = {0x00, 0x80, [15] = 17 * 8}, end[ZB_KEY] = {0x80, [14] = 1};
    uint8_t ipad[ZB_KEY], opad[ZB_KEY], inner[ZB_KEY] = {0};
    for (int i = 0; i < ZB_KEY; i++) {
        ipad[i] = link_key[i] ^ 0x36;
        opad[i] = link_key[i] ^ 0x5c;
    }
    block(b, inner, ipad);
    block(b, inner, message);
    memset(key, 0, ZB_KEY);
    block(b, key, opad);
    block(b, key, inner);
    block(b, key, end);
}

static void primitives(struct bare *b)
{
    static const uint8_t aad[CCM_AAD] = {0x21, 7, 0x35, 7, 0, 0, 0, 0xc3, 0xb2, 0xa1, 0x1c, 0x00, 0x4b, 0x12, 0x00};
    static const uint8_t nonce[NONCE] = {0xc3, 0xb2, 0xa1, 0x1c, 0x00, 0x4b, 0x12, 0x00, 7, 0, 0, 0, 0x35};
    uint8_t text[COMMAND] = {ZB_TRANSPORT_KEY, ZB_KEYTYPE_NWK}, key[ZB_KEY];
    int n;
    memcpy(text + 2, network_key, ZB_KEY);
    struct wr addresses = wr_of(text + 19, 16);
    wr_le64(&addresses, device);
    wr_le64(&addresses, gateway);
    derive(b, key);
    must(EVP_CIPHER_CTX_ctrl(b->ccm, EVP_CTRL_AEAD_SET_TAG, ZB_MIC, NULL) == 1 &&
             EVP_EncryptInit_ex(b->ccm, NULL, NULL, key, nonce) == 1 &&
             EVP_EncryptUpdate(b->ccm, NULL, &n, NULL, COMMAND) == 1 &&
             EVP_EncryptUpdate(b->ccm, NULL, &n, aad, sizeof aad) == 1 &&
             EVP_EncryptUpdate(b->ccm, b->out, &n, text, COMMAND) == 1 &&
             EVP_CIPHER_CTX_ctrl(b->ccm, EVP_CTRL_AEAD_GET_TAG, ZB_MIC, b->out + COMMAND) == 1,
         "CCM");
}

static void primitives_and_unsealing(struct bare *b)
{
    static const uint8_t nonce[GCM_NONCE], aad[10];
    for (int i = 0; i < 2; i++) {
        uint8_t key[ZB_KEY];
        int n;
        must(EVP_DecryptInit_ex2(b->gcm, NULL, NULL, nonce, NULL) == 1 &&
                 EVP_DecryptUpdate(b->gcm, NULL, &n, aad, sizeof aad) == 1 &&
                 EVP_DecryptUpdate(b->gcm, key, &n, b->sealed, ZB_KEY) == 1 &&
                 EVP_CIPHER_CTX_ctrl(b->gcm, EVP_CTRL_AEAD_SET_TAG, 16, b->tag) == 1 &&
                 EVP_DecryptFinal_ex(b->gcm, key + n, &n) == 1,
             "GCM");
    }
    primitives(b);
}

static void bare_set_up(struct bare *b)
{
    static const uint8_t kek[SEAL_KEK] = {1}, nonce[GCM_NONCE], aad[10];
    EVP_CIPHER *ecb = EVP_CIPHER_fetch(NULL, "AES-128-ECB", NULL), *ccm = EVP_CIPHER_fetch(NULL, "AES-128-CCM", NULL),
               *gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    EVP_CIPHER_CTX *enc = EVP_CIPHER_CTX_new();
    int n;
    b->ecb = EVP_CIPHER_CTX_new();
    b->ccm = EVP_CIPHER_CTX_new();
    b->gcm = EVP_CIPHER_CTX_new();
    must(EVP_EncryptInit_ex(b->ecb, ecb, NULL, NULL, NULL) == 1 && EVP_CIPHER_CTX_set_padding(b->ecb, 0) == 1 &&
             EVP_EncryptInit_ex(b->ccm, ccm, NULL, NULL, NULL) == 1 &&
             EVP_CIPHER_CTX_ctrl(b->ccm, EVP_CTRL_AEAD_SET_IVLEN, NONCE, NULL) == 1 &&
             EVP_DecryptInit_ex2(b->gcm, gcm, kek, NULL, NULL) == 1 &&
             EVP_EncryptInit_ex2(enc, gcm, kek, nonce, NULL) == 1 &&
             EVP_EncryptUpdate(enc, NULL, &n, aad, sizeof aad) == 1 &&
             EVP_EncryptUpdate(enc, b->sealed, &n, link_key, ZB_KEY) == 1 &&
             EVP_EncryptFinal_ex(enc, b->sealed + n, &n) == 1 &&
             EVP_CIPHER_CTX_ctrl(enc, EVP_CTRL_AEAD_GET_TAG, 16, b->tag) == 1,
         "set-up");
    EVP_CIPHER_CTX_free(enc);
    EVP_CIPHER_free(ecb);
    EVP_CIPHER_free(ccm);
    EVP_CIPHER_free(gcm);
}

/* --- in turns ----------------------------------------------------------------------------------------------------- */

struct subject {
    const char *name;
    void (*ours)(struct ours *o);
    void (*bare)(struct bare *b);
    double us[REPETITIONS_MAX];
};

static void run(struct subject *s, struct ours *o, struct bare *b, int at, int frames)
{
    double from = cpu_us();
    for (int i = 0; i < frames; i++)
        if (s->ours != NULL)
            s->ours(o);
        else
            s->bare(b);
    s->us[at] = (cpu_us() - from) / frames;
}

static void print(const struct subject *s, int repetitions, bool first, bool last)
{
    printf("%s\"%s\": [", first ? "{" : "", s->name);
    for (int r = 0; r < repetitions; r++)
        printf("%s%.4f", r == 0 ? "" : ", ", s->us[r]);
    printf("]%s", last ? "}\n" : ", ");
}

int main(int argc, char **argv)
{
    int repetitions = argc > 1 ? atoi(argv[1]) : 5, frames = argc > 2 ? atoi(argv[2]) : 50000;
    struct subject all[] = {{.name = "codec", .ours = codec},
                            {.name = "vault", .ours = in_vault},
                            {.name = "bare", .bare = primitives},
                            {.name = "bare_unsealing", .bare = primitives_and_unsealing}};
    char dir[] = "forge-XXXXXX", path[64];
    struct ours o = {.cmd = {.id = ZB_TRANSPORT_KEY, .key_type = ZB_KEYTYPE_NWK, .dst = device, .src = gateway}};
    o.in = (struct vault_aps_command){
        .cmd = &o.cmd, .key_id = ZB_KEY_ID_TRANSPORT, .counter = 7, .source = gateway, .aps_counter = 7};
    memcpy(o.cmd.key, network_key, ZB_KEY); /* the vault puts in the one that it carries */
    struct bare b = {0};
    must(repetitions > 0 && repetitions <= REPETITIONS_MAX && frames > 0 && mkdtemp(dir) != NULL, "usage, or no folder");
    bare_set_up(&b);
    must((o.zb = zb_crypto_new()) != NULL, "no AES");
    struct store *s = open_vault(&o, dir);
    codec(&o);
    primitives(&b);
    must(memcmp(o.frame + HEADERS + CCM_AAD, b.out, sizeof b.out) == 0, "the two sides do not compute the same");
    for (int r = 0; r < repetitions; r++)
        for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
            run(&all[i], &o, &b, r, frames);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        print(&all[i], repetitions, i == 0, i + 1 == sizeof all / sizeof all[0]);
    vault_close(o.vault);
    store_close(s);
    zb_crypto_free(o.zb);
    snprintf(path, sizeof path, "%s/db", dir);
    unlink(path);
    rmdir(dir);
    return 0;
}
