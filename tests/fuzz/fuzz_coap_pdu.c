/* One datagram through the CoAP codec; what parses is built again and must parse to the same. */
#include "cse-shim/coap/pdu.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort();
}

static void round_trip(const struct pdu *p)
{
    static uint8_t buf[2 * PDU_MAX];
    struct cep_option ours[PDU_MAX_OPTIONS];
    size_t n = 0;
    for (size_t i = 0; i < p->msg.nopts; i++)
        if (option_is_ours(p->msg.opts[i].num))
            ours[n++] = p->msg.opts[i];
    struct wr w = wr_of(buf, sizeof buf);
    pdu_begin(&w, p->type, p->msg.code, p->mid, &p->token);
    pdu_options(&w, &p->msg, ours, n);
    pdu_payload(&w, p->msg.payload);
    check(wr_ok(&w));
    struct pdu again;
    check(pdu_parse(&again, wr_span(&w)) == PDU_OK);
    check(again.type == p->type && again.mid == p->mid && token_eq(&again.token, &p->token));
    check(again.msg.nopts == p->msg.nopts && span_eq(again.msg.payload, p->msg.payload));
    for (size_t i = 0; i < p->msg.nopts; i++)
        check(again.msg.opts[i].num == p->msg.opts[i].num && span_eq(again.msg.opts[i].val, p->msg.opts[i].val));
    check(message_same_target(&p->msg, &again.msg));
    pdu_wipe(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool ready;
    if (!ready)
        pdu_library_init();
    ready = true;
    if (size > PDU_MAX)
        return 0;
    struct pdu p;
    if (pdu_parse(&p, span_of(data, size)) != PDU_OK)
        return 0;
    if (p.msg.code != 0) {
        uint32_t v;
        for (size_t i = 0; i < p.msg.nopts; i++)
            cep_option_uint(&p.msg, p.msg.opts[i].num, &v);
        option_unknown_critical(&p.msg);
        struct message *copy = message_copy(&p.msg);
        check(copy != NULL && message_same_target(&copy->m, &p.msg));
        message_free(copy);
        round_trip(&p);
    }
    pdu_wipe(&p);
    return 0;
}
