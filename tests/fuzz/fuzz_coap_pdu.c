/* One datagram through the CoAP codec; what parses is built again and must parse to the same, and what libcoap's parser takes
 * as well must say the same to both. */
#include "cse-shim/coap/pdu.h"

#include <coap3/coap.h>
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
}

/* The same options, but for elective ones of a length that libcoap does not mind. */
static bool same_options(const struct pdu *p, const coap_pdu_t *other)
{
    coap_opt_iterator_t it;
    size_t i = 0;
    coap_option_iterator_init(other, &it, COAP_OPT_ALL);
    for (coap_opt_t *o; (o = coap_option_next(&it)) != NULL;) {
        struct span val = span_of(coap_opt_value(o), coap_opt_length(o));
        if (i < p->msg.nopts && it.number == p->msg.opts[i].num && span_eq(val, p->msg.opts[i].val))
            i++;
        else if ((it.number & 1) != 0)
            return false;
    }
    return i == p->msg.nopts;
}

static void compare(const struct pdu *p, struct span datagram)
{
    coap_pdu_t *other = coap_pdu_init(COAP_MESSAGE_CON, 0, 0, PDU_MAX);
    size_t n = 0;
    const uint8_t *payload = NULL;
    if (other != NULL && coap_pdu_parse(COAP_PROTO_UDP, datagram.p, datagram.n, other)) {
        coap_get_data(other, &n, &payload);
        check(same_options(p, other) && span_eq(p->msg.payload, span_of(payload, n)));
    }
    coap_delete_pdu(other);
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
        if (p.msg.code >> 5 != 7) /* CoAP over TCP's signals, whose options libcoap takes as they come */
            compare(&p, span_of(data, size));
    }
    return 0;
}
