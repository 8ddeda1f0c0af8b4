/* mefd's life: reloading, draining, exit codes; and what `mefctl init` leaves. */
#include "tests/unit/host_caller.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void reload_and_metrics(void **state)
{
    struct world *w = *state;
    char page[8000];
    struct caller *c = caller_new(w, "127.0.0.1"); /* a job to count, and a session that ends */
    const struct cep_option get[] = {OPT(11, "svc"), OPT(11, "thread")};
    call(c, CEP_GET, get, 2, "", false, 1);
    caller_free(c);
    write_conf(w, "welcome", "");
    kill(w->mefd, SIGHUP);
    usleep(300000);
    struct reply r = https(w, "GET", "/svc/tell", "", "");
    assert_true(has(&r, "\"greeting\":\"welcome\""));
    assert_false(has(&r, "\"sessionsEnded\":0"));
    write_conf(w, "broken", "[nonsense]\n");
    kill(w->mefd, SIGHUP);
    usleep(300000);
    r = https(w, "GET", "/svc/tell", "", "");
    assert_true(has(&r, "\"greeting\":\"welcome\""));
    write_conf(w, "hello", "");
    assert_int_equal(status_page(w, "/healthz", page, sizeof page), 200);
    assert_int_equal(status_page(w, "/other", page, sizeof page), 404);
    assert_int_equal(status_page(w, "/metrics", page, sizeof page), 200);
    assert_non_null(strstr(page, "\n# TYPE tiny_jobs_total counter\ntiny_jobs_total "));
    assert_non_null(strstr(page, "\n# TYPE https_connections gauge\n"));
    assert_non_null(strstr(page, "\n# TYPE coap_requests_total counter\n"));
}

/* A request in flight is answered although the daemon is told to stop; one that never is does not hold it for ever. */
static void drain(void **state)
{
    struct world *w = *state;
    assert_int_equal(stop(w, SIGTERM), 0);
    w->drain = 60;
    write_conf(w, "hello", "");
    start(w);
    pid_t asker = fork();
    if (asker == 0)
        _exit(https(w, "GET", "/svc/timer", "", "").status == 200 ? 0 : 1);
    usleep(150000);
    time_t began = time(NULL);
    assert_int_equal(stop(w, SIGTERM), 0);
    assert_true(time(NULL) - began <= 20);
    int status = 0;
    waitpid(asker, &status, 0);
    assert_int_equal(WEXITSTATUS(status), 0);
    w->drain = 2;
    write_conf(w, "hello", "");
    start(w);
    asker = fork();
    if (asker == 0)
        _exit(https(w, "GET", "/svc/never", "", "").status <= 0 ? 0 : 1);
    usleep(300000);
    began = time(NULL);
    assert_int_equal(stop(w, SIGTERM), 0); /* drain-seconds = 2 */
    assert_true(time(NULL) - began <= 20);
    waitpid(asker, &status, 0);
    assert_int_equal(WEXITSTATUS(status), 0);
    start(w);
}

static void exit_codes(void **state)
{
    struct world *w = *state;
    char other[100], text[2000] = "", log[100];
    snprintf(other, sizeof other, "%s/other.conf", w->dir);
    snprintf(log, sizeof log, "%s/out", w->dir);
    char *const help[] = {"mefd", "--help", NULL}, *const none[] = {"mefd", NULL}, *const wrong[] = {"mefd", "--nope", NULL};
    char *const check[] = {"mefd", "--config", w->conf, "--check-config", NULL};
    char *const bad[] = {"mefd", "--config", other, NULL}, *const again[] = {"mefd", "--config", w->conf, NULL};
    assert_int_equal(run(getenv("MEFD"), help, log), 0);
    assert_int_equal(run(getenv("MEFD"), none, log), 2);
    assert_int_equal(run(getenv("MEFD"), wrong, log), 2);
    assert_int_equal(run(getenv("MEFD"), check, log), 0);
    assert_int_equal(run(getenv("MEFD"), bad, log), 3); /* no such file */
    FILE *f = fopen(other, "w");
    fprintf(f, "[daemon]\nplugin = %s\nplugged = x\n", getenv("TINY_PLUGIN"));
    fclose(f);
    assert_int_equal(run(getenv("MEFD"), bad, log), 3);
    f = fopen(log, "r");
    assert_true(fread(text, 1, sizeof text - 1, f) > 0);
    fclose(f);
    assert_non_null(strstr(text, "other.conf:3: unknown key plugged in [daemon]"));
    f = fopen(other, "w");
    fprintf(f, "[daemon]\nplugin = %s\n[status]\nlisten = 0.0.0.0:%u\n", getenv("TINY_PLUGIN"), free_port(SOCK_STREAM));
    fclose(f);
    assert_int_equal(run(getenv("MEFD"), bad, log), 1); /* status not on loopback */
    assert_int_equal(run(getenv("MEFD"), again, log), 1); /* the ports are taken */
}

static void init_keeps_what_is_there(void **state)
{
    struct world *w = *state;
    static const char *const names[] = {"kek", "admin.token", "server.key", "mefd.conf"};
    char path[100], log[100];
    struct stat before, after;
    snprintf(log, sizeof log, "%s/out", w->dir);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", w->dir, names[i]);
        assert_int_equal(stat(path, &before), 0);
        assert_int_equal(before.st_mode & 07777, 0600);
    }
    snprintf(path, sizeof path, "%s/kek", w->dir);
    assert_int_equal(stat(path, &before), 0);
    assert_int_equal(before.st_size, 32);
    char *const again[] = {"mefctl", "init", "--fqdn", "mef.test.example", "--dir", w->dir, NULL};
    char *const bad[] = {"mefctl", "init", "--fqdn", "no;name", "--dir", w->dir, "--force", NULL};
    char *const none[] = {"mefctl", "init", "--fqdn", "mef.test.example", NULL};
    assert_int_equal(run(getenv("MEFCTL"), again, log), 1);
    assert_int_equal(run(getenv("MEFCTL"), bad, log), 2);
    assert_int_equal(run(getenv("MEFCTL"), none, log), 2);
    assert_int_equal(stat(path, &after), 0);
    assert_true(before.st_ino == after.st_ino && before.st_mtim.tv_nsec == after.st_mtim.tv_nsec);
    stop(w, SIGTERM);
    char *const force[] = {"mefctl", "init", "--fqdn", "mef.test.example", "--dir", w->dir, "--force", NULL};
    assert_int_equal(run(getenv("MEFCTL"), force, log), 0);
    write_conf(w, "hello", "");
    start(w);
    assert_int_equal(https(w, "GET", "/svc/x", "", "").status, 200); /* with the new certificate */
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reload_and_metrics),
        cmocka_unit_test(drain),
        cmocka_unit_test(exit_codes),
        cmocka_unit_test(init_keeps_what_is_there),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
