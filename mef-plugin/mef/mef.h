/* The MEF proper: who may talk to it (credentials), the oneM2M resources of Mmef (MEFBase, mefClientReg, symmKeyReg;
 * TS-0003 8.3), and applications (named sets that share access). Spelling and numbers come from config/names.h only. */
#pragma once
#include "cse-shim/cse_plugin.h"
#include "mef-plugin/audit/audit.h"
#include "mef-plugin/vault/vault.h"

struct mef;
struct mef_deps {
    struct cse_host *host;
    const struct cse_host_ops *ops;
    const struct conf *conf;
    struct store *store;
    struct vault *vault;
    struct audit *audit;
};
/* Options of section [mef] (base, fqdn, sp-id, cse-id, ..); ended by section NULL. */
extern const struct conf_option mef_options[];
MUST_USE struct mef *mef_open(const struct mef_deps *d, char *err, size_t errlen); /* loads its tables */
void mef_close(struct mef *m);
const char *mef_base(const struct mef *m); /* the base path segment, default "mef" */

/* Handle a CSE_PRIMITIVE request at or below the base, or MEF_FETCH_PATH. Answers through ops->respond. */
void mef_handle(struct mef *m, struct cse_request *req);
/* Whether `[mef] fetch-credentials` asks for MEF_FETCH_PATH to be served, too. */
bool mef_fetches(const struct mef *m);
void mef_session_end(struct mef *m, uint64_t session);

/* --- principals --------------------------------------------------------------------------------------------------- */
enum mef_role {
    MEF_ROLE_NONE,
    MEF_ROLE_CLIENT,  /* AE, CSE, MAF; or a node in the name of one */
    MEF_ROLE_GATEWAY, /* node that carries EG messages */
    MEF_ROLE_NODE     /* node that acts for its AEs and CSE, in its own name: it is no MEF client */
};
struct mef_principal {
    enum mef_role role;
    const char *id;         /* Absolute AE-ID / CSE-ID, or the node's id; valid until the loop returns */
    const char *credential; /* KpmID / SAN */
    const char *admin;      /* adminFQDN */
    int64_t expires;        /* of the credential, ms since 1970; 0: never */
    const char *node;       /* the node that acts for `id`; NULL: it is itself */
};
/* Who is this peer? MEF_ROLE_NONE if its credential is unknown, deleted or expired. A pre-shared key is one
 * stakeholder's; the name in a certificate may be known to several, each of which says for itself whose it is: this is
 * the one who did so first. */
struct mef_principal mef_principal(struct mef *m, const struct cse_peer *peer);
/* ..for this stakeholder, and with this id in its stored spelling, its own or one of those a node acts for; NULL: any. */
struct mef_principal mef_principal_of(struct mef *m, const struct cse_peer *peer, const char *admin, const char *id);
/* Do several stakeholders know it, by this id (NULL: by any)? */
bool mef_has_several(struct mef *m, const struct cse_peer *peer, const char *id);
/* Complete an AE-ID/CSE-ID to absolute form ("C1" -> "//sp/cse/C1"); false: not an M2M-ID. */
bool mef_absolute(const struct mef *m, const char *id, char *out, size_t cap);
/* Host name syntax (RFC 1123), at least one dot; written in lower case. out holds 256 characters. */
bool mef_fqdn_parse(const char *text, char *out);
/* Key of a PSK identity, for a client that asked for server_name (NULL, "": for none); 0: refuse. */
size_t mef_psk(struct mef *m, const char *identity, const char *server_name, uint8_t *key, size_t cap);

/* --- credentials (admin REST) ------------------------------------------------------------------------------------- */
/* Each *_json function takes the request body and gives the response body; on failure it sets code/field/detail in rsp
 * (static strings). They add to the transaction and change memory; the caller commits and then answers. */
struct mef_result {
    enum st st;
    cJSON *body;
    const char *code, *field, *detail; /* detail is copied with the answer */
    bool sensitive;
    const char *location;
    char text[256]; /* room for a detail made for the occasion */
};
/* {"for":ID,"kind":"psk","kpm"?:hex,"expiresAt"?} -> {"id","kpmId","kpm",..}; {"for":ID,"kind":"certificate","san"?,
 * "expiresAt"?} -> {"id","san",..}. For a gateway: {"for":"gateway:<name or EUI-64>"}; for a node that acts for the AEs and
 * the CSE on it: {"for":"node:<Node-ID>","actsFor":[ID..]}. */
void mef_credential_create(struct mef *m, struct store_txn *t, const char *admin, const char *actor, const cJSON *in, struct mef_result *r);
void mef_credential_delete(struct mef *m, struct store_txn *t, const char *admin, const char *actor, const char *id, struct mef_result *r);
/* Never the key. Lists page by id and by name: at most `limit` above `after` ("": from the start). */
cJSON *mef_credential_list(struct mef *m, const char *admin, const char *after, unsigned limit);
cJSON *mef_credential_get(struct mef *m, const char *admin, const char *id);  /* NULL: none */
/* The role a credential's identity (KpmID, SAN) has; for binding gateways. */
enum mef_role mef_credential_role(struct mef *m, const char *admin, const char *identity);

/* --- applications ------------------------------------------------------------------------------------------------- */
void mef_application_put(struct mef *m, struct store_txn *t, const char *admin, const char *actor, const char *name, const cJSON *in, struct mef_result *r);
void mef_application_delete(struct mef *m, struct store_txn *t, const char *admin, const char *actor, const char *name, struct mef_result *r);
cJSON *mef_application_get(struct mef *m, const char *admin, const char *name);
cJSON *mef_application_list(struct mef *m, const char *admin, const char *after, unsigned limit);
/* Is the absolute id a member? */
bool mef_application_member(struct mef *m, const char *admin, const char *name, const char *id);

/* Which devices share a network key: none; those of one application at one gateway; all at one gateway whose applications
 * have this scope. Numbers are stored. */
enum mef_scope { MEF_SCOPE_DEVICE, MEF_SCOPE_APPLICATION, MEF_SCOPE_NETWORK, MEF_SCOPES };
/* Of devices registered for the application; MEF_SCOPE_DEVICE when there is none of this name. */
enum mef_scope mef_application_scope(struct mef *m, const char *admin, const char *name);
/* Life of a key made for the application, seconds; 0: none set. */
uint64_t mef_application_lifetime(struct mef *m, const char *admin, const char *name);

/* --- policy rules (docs/rest-api.md) ------------------------------------------------------------------------------ */
void mef_policy_put(struct mef *m, struct store_txn *t, const char *admin, const char *actor, const char *name, const cJSON *in, struct mef_result *r);
void mef_policy_delete(struct mef *m, struct store_txn *t, const char *admin, const char *actor, const char *name, struct mef_result *r);
cJSON *mef_policy_get(struct mef *m, const char *admin, const char *name);
cJSON *mef_policy_list(struct mef *m, const char *admin, const char *after, unsigned limit);
/* What the rules would say, and which of them: nothing is done. */
void mef_policy_evaluate(struct mef *m, const char *admin, const cJSON *in, struct mef_result *r);
/* May this client take counters for a device at this gateway (0: at none), as far as the rules go? */
bool mef_policy_ticket(struct mef *m, const struct mef_principal *p, const struct cse_peer *peer, eui64_t gateway);

/* --- registrations and their commands (admin REST) --- */
/* Client registrations of the stakeholder, by id; at most `limit` above `after`. */
cJSON *mef_registration_list(struct mef *m, const char *admin, const char *after, unsigned limit);
cJSON *mef_registration_get(struct mef *m, const char *admin, const char *id); /* NULL: none */
/* The commands of one: the last done, the one issued, those that wait. NULL: no such registration. */
cJSON *mef_command_list(struct mef *m, const char *admin, const char *id);
/* `in` is a cmdDescription (TS-0003 12), for the client to do after those that wait. */
void mef_command_create(struct mef *m, struct store_txn *t, const char *admin, const char *actor, const char *id, const cJSON *in, struct mef_result *r);
/* What the client is to be configured with: a clientRegCfg (TS-0003 12). NULL: none. */
cJSON *mef_configuration_get(struct mef *m, const char *admin, const char *id);
void mef_configuration_put(struct mef *m, struct store_txn *t, const char *admin, const char *actor, const char *id, const cJSON *in, struct mef_result *r);
void mef_configuration_delete(struct mef *m, struct store_txn *t, const char *admin, const char *actor, const char *id, struct mef_result *r);
/* Withdraw one that is not done yet. */
void mef_command_delete(struct mef *m, struct store_txn *t, const char *admin, const char *actor, const char *id, const char *command, struct mef_result *r);

/* --- key registrations made by the EG ----------------------------------------------------------------------------- */
struct mef_keyreg_new {
    const char *admin;
    vault_id key;
    unsigned suid;               /* TS-0004 6.3.4.2.39; 24 for ESData */
    const char *application;     /* NULL or the application whose members may also retrieve */
    const char *const *targets;  /* absolute ids */
    size_t ntargets;
    const char *const *labels;
    size_t nlabels;
    int64_t expires;             /* ms since 1970 */
};
#define MEF_RELKEYID 33 /* 32 hex digits and NUL */
/* Publish a key as a symmKeyReg whose source is the MEF itself; relkeyid gets its RelativeKeyID. */
MUST_USE enum st mef_keyreg_add(struct mef *m, struct store_txn *t, const struct mef_keyreg_new *in, char relkeyid[MEF_RELKEYID]);
void mef_keyreg_remove(struct mef *m, struct store_txn *t, const char *relkeyid);
/* May the principal retrieve this key? (targets, or member of its application) */
bool mef_keyreg_allows(struct mef *m, const char *relkeyid, const struct mef_principal *p);
