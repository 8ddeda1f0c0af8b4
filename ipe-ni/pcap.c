#include "ipe-ni/pcap.h"

#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { MAX_PACKET = 2048, RECORD_HEADER = 16 };

struct pcap {
    int fd;
};

static bool put(int fd, const struct wr *w) { return wr_ok(w) && write(fd, w->p, w->n) == (ssize_t)w->n; }

struct pcap *pcap_create(const char *path, uint32_t link_type)
{
    uint8_t buf[24];
    struct wr w = wr_of(buf, sizeof buf);
    struct pcap *p = malloc(sizeof *p);
    if (p == NULL)
        return NULL;
    p->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0640);
    wr_le32(&w, 0xa1b2c3d4); /* microseconds */
    wr_le16(&w, 2);          /* version 2.4 */
    wr_le16(&w, 4);
    wr_le64(&w, 0);
    wr_le32(&w, MAX_PACKET);
    wr_le32(&w, link_type);
    if (p->fd >= 0 && put(p->fd, &w))
        return p;
    pcap_close(p);
    return NULL;
}

void pcap_write(struct pcap *p, struct span packet)
{
    uint8_t buf[RECORD_HEADER + MAX_PACKET];
    struct wr w = wr_of(buf, sizeof buf);
    struct timespec now;
    if (p == NULL || clock_gettime(CLOCK_REALTIME, &now) != 0)
        return;
    wr_le32(&w, (uint32_t)now.tv_sec);
    wr_le32(&w, (uint32_t)(now.tv_nsec / 1000));
    wr_le32(&w, (uint32_t)packet.n);
    wr_le32(&w, (uint32_t)packet.n);
    wr_spanb(&w, packet);
    (void)put(p->fd, &w);
}

void pcap_close(struct pcap *p)
{
    if (p == NULL)
        return;
    if (p->fd >= 0)
        close(p->fd);
    free(p);
}
