/* Run a libmicrohttpd daemon (started without a thread of its own, with epoll) from an sd-event loop. */
#pragma once
#include "cse-shim/base/bytes.h"

#include <microhttpd.h>
#include <systemd/sd-event.h>

struct mhd_loop;
/* Takes the daemon over, also on failure. NULL: out of memory. */
MUST_USE struct mhd_loop *mhd_loop_new(sd_event *loop, struct MHD_Daemon *daemon);
void mhd_loop_free(struct mhd_loop *m); /* stops the daemon; NULL is fine */
struct MHD_Daemon *mhd_loop_daemon(const struct mhd_loop *m);
/* Something was done to the daemon from outside its own call-backs: let it work soon. */
void mhd_loop_kick(struct mhd_loop *m);

/* Log hook for MHD_OPTION_EXTERNAL_LOGGER. */
__attribute__((format(printf, 2, 0))) void mhd_log(void *user, const char *fmt, va_list ap);
