/* Keys made of keys, against the vectors: by key id, and never of what is no Ke. */
#include "tests/unit/vault_fixture.h"
#include "tests/unit/vectors_fixture.h"

#define KE "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

static enum vault_derived what_of(const cJSON *v)
{
    static const char *const names[] = {"km", "kpsa", "kuc", "session-esprim"};
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItem(v, "what"));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return (enum vault_derived)i;
    fail_msg("no such derivation: %s", name);
    return VAULT_KM;
}

/* None when it has no such member. */
static struct span bytes_of(const cJSON *v, const char *name, uint8_t out[64])
{
    return span_of(out, cJSON_IsString(cJSON_GetObjectItem(v, name)) ? unhex(v, name, out, 64) : 0);
}

static enum st derive(struct both b, const struct vault_derivation *d, vault_id *id)
{
    struct store_txn *t = store_begin(b.s);
    enum st st = vault_derive(b.v, t, d, id);
    store_commit(t, NULL, NULL);
    return st;
}

static void derivations_equal_the_vectors(void **state)
{
    struct fixture *f = *state;
    struct both b = open_both(f);
    cJSON *all = vectors("ONEM2M_VECTORS");
    const cJSON *v;
    vault_id ids[32];
    size_t n = 0;
    cJSON_ArrayForEach(v, cJSON_GetObjectItem(all, "derivations"))
    {
        uint8_t receiver[64], originator[64];
        const cJSON *suid = cJSON_GetObjectItem(v, "suid");
        struct vault_derivation d = {.what = what_of(v),
                                     .from = import(b, VAULT_SYMM_KEY,
                                                    cJSON_GetStringValue(cJSON_GetObjectItem(v, "key"))),
                                     .suid = suid != NULL ? (unsigned)suid->valueint : 0,
                                     .id = cJSON_GetStringValue(cJSON_GetObjectItem(v, "id")),
                                     .receiver_rand = bytes_of(v, "receiver_rand", receiver),
                                     .originator_rand = bytes_of(v, "originator_rand", originator)};
        assert_true(n < 32);
        assert_int_equal(derive(b, &d, &ids[n++]), ST_OK);
    }
    assert_true(n >= 8);
    close_both(b);
    b = open_both(f); /* sealed like any other */
    n = 0;
    cJSON_ArrayForEach(v, cJSON_GetObjectItem(all, "derivations"))
    {
        char hex[129];
        assert_true(vault_release_hex(b.v, ids[n++], hex, sizeof hex));
        assert_string_equal(hex, cJSON_GetStringValue(cJSON_GetObjectItem(v, "derived")));
    }
    cJSON_Delete(all);
    close_both(b);
}

static void only_what_is_whole_and_meant_for_it_derives(void **state)
{
    struct fixture *f = *state;
    struct both b = open_both(f);
    static const uint8_t rand[VAULT_ESPRIM_RAND + 1];
    struct span whole = span_of(rand, VAULT_ESPRIM_RAND);
    vault_id ke = import(b, VAULT_SYMM_KEY, KE), kpm = import(b, VAULT_PSK, KE), id = 0,
             network = import(b, VAULT_NETWORK_KEY, "c0ffee00112233445566778899aabb01");
    const struct {
        struct vault_derivation d;
        enum st want;
    } cases[] = {
        {{.what = VAULT_KM, .from = ke, .id = "maf.example.com"}, ST_OK},
        {{.what = VAULT_KM, .from = kpm, .id = "maf.example.com"}, ST_NOT_FOUND},
        {{.what = VAULT_KM, .from = network, .id = "maf.example.com"}, ST_NOT_FOUND},
        {{.what = VAULT_KM, .from = 0, .id = "maf.example.com"}, ST_NOT_FOUND},
        {{.what = VAULT_KM, .from = 999, .id = "maf.example.com"}, ST_NOT_FOUND},
        {{.what = VAULT_KM, .from = ke, .id = ""}, ST_BAD_REQUEST},
        {{.what = VAULT_KUC, .from = ke, .suid = 22}, ST_BAD_REQUEST},
        {{.what = (enum vault_derived)4, .from = ke, .id = "x"}, ST_BAD_REQUEST},
        {{.what = VAULT_SESSION_ESPRIM, .from = ke, .receiver_rand = whole, .originator_rand = whole}, ST_OK},
        {{.what = VAULT_SESSION_ESPRIM, .from = ke, .receiver_rand = whole}, ST_BAD_REQUEST},
        {{.what = VAULT_SESSION_ESPRIM, .from = ke, .receiver_rand = whole, .originator_rand = span_of(rand, 15)},
         ST_BAD_REQUEST},
        {{.what = VAULT_SESSION_ESPRIM, .from = ke, .receiver_rand = span_of(rand, 17), .originator_rand = whole},
         ST_BAD_REQUEST},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        vault_id before = id;
        assert_int_equal(derive(b, &cases[i].d, &id), cases[i].want);
        assert_true((id != before) == (cases[i].want == ST_OK));
    }
    close_both(b);
}

static void another_usage_or_target_is_another_key(void **state)
{
    struct fixture *f = *state;
    struct both b = open_both(f);
    vault_id ke = import(b, VAULT_SYMM_KEY, KE), ids[4];
    const struct vault_derivation ways[] = {
        {.what = VAULT_KUC, .from = ke, .suid = 24, .id = "Ca.cse.sp.example.com"},
        {.what = VAULT_KUC, .from = ke, .suid = 25, .id = "Ca.cse.sp.example.com"},
        {.what = VAULT_KUC, .from = ke, .suid = 24, .id = "Cb.cse.sp.example.com"},
        {.what = VAULT_KUC, .from = ke, .suid = 24, .id = "Ca.cse.sp.example.com"},
    };
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(derive(b, &ways[i], &ids[i]), ST_OK);
    assert_false(vault_same(b.v, ids[0], ids[1]) || vault_same(b.v, ids[0], ids[2]) || vault_same(b.v, ids[0], ke));
    assert_true(vault_same(b.v, ids[0], ids[3]));
    close_both(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(derivations_equal_the_vectors, setup, teardown),
        cmocka_unit_test_setup_teardown(only_what_is_whole_and_meant_for_it_derives, setup, teardown),
        cmocka_unit_test_setup_teardown(another_usage_or_target_is_another_key, setup, teardown),
    };
    return cmocka_run_group_tests_name("vault derive", tests, NULL, NULL);
}
