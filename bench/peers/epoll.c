/* The floor: a bare epoll loop that answers every request with the same bytes.
 *
 *     cc -O2 -o epoll epoll.c && ./epoll PORT LOOPS ANSWER-FILE [close]
 *
 * One process a loop, each pinned to its core with its own SO_REUSEPORT listener, as boxoffice has threads. It looks
 * for the end of each request's head and knows nothing else of HTTP: what a server costs above this is its own doing.
 * The answers to the requests of one read leave in one write, as boxoffice's do. With "close" each connection is closed
 * behind its first answers. Prints "ready" once it listens.
 * SIGTERM ends it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EVENTS = 1024, CONNECTIONS = 65536, READ_BYTES = 65536, PIPELINE = 128, ANSWER_BYTES = 4096 };

static char answer[ANSWER_BYTES];
static size_t answer_bytes;
static char answers[PIPELINE * ANSWER_BYTES];
/* How many bytes of "\r\n\r\n" each connection has seen, for a head that is split between reads. */
static unsigned char seen[CONNECTIONS];

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static int listen_on(int port)
{
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((unsigned short)port) };
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0) fail("socket");
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on)) fail("SO_REUSEPORT");
    if (bind(fd, (struct sockaddr *)&at, sizeof at)) fail("bind");
    if (listen(fd, 1024)) fail("listen");
    return fd;
}

static int requests_in(int fd, const char *bytes, ssize_t count)
{
    static const char end[] = "\r\n\r\n";
    unsigned char matched = seen[fd];
    int requests = 0;
    if (matched == 0 && count >= 4 && memcmp(bytes + count - 4, end, 4) == 0) {
        /* Whole requests only, the common case: as quick as a bare loop can be. */
        for (const char *at = bytes; (at = memmem(at, (size_t)(bytes + count - at), end, 4)); at += 4) requests++;
        return requests;
    }
    for (ssize_t i = 0; i < count; i++) {
        matched = bytes[i] == end[matched] ? matched + 1 : bytes[i] == '\r';
        if (matched == 4) {
            requests++;
            matched = 0;
        }
    }
    seen[fd] = matched;
    return requests;
}

static void loop(int listener, int closes)
{
    static struct epoll_event events[EVENTS];
    static char bytes[READ_BYTES];
    int on = 1;
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event wanted = { .events = EPOLLIN, .data.fd = listener };
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &wanted)) fail("epoll");
    for (;;) {
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                int client;
                while ((client = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
                    if (client >= CONNECTIONS) {
                        close(client);
                        continue;
                    }
                    seen[client] = 0;
                    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                    wanted.events = EPOLLIN | EPOLLRDHUP;
                    wanted.data.fd = client;
                    if (epoll_ctl(epoll, EPOLL_CTL_ADD, client, &wanted)) fail("epoll_ctl");
                }
                continue;
            }
            ssize_t count = read(fd, bytes, sizeof bytes);
            if (count < 0 && (errno == EAGAIN || errno == EINTR)) continue;
            int requests = count > 0 ? requests_in(fd, bytes, count) : 0;
            size_t wanted_bytes = (size_t)requests * answer_bytes;
            if (count <= 0 || requests > PIPELINE || write(fd, answers, wanted_bytes) != (ssize_t)wanted_bytes
                || (closes && requests > 0))
                close(fd);
        }
    }
}

int main(int count, char **words)
{
    if (count != 4 && !(count == 5 && strcmp(words[4], "close") == 0)) {
        fprintf(stderr, "takes PORT LOOPS ANSWER-FILE [close]\n");
        return 2;
    }
    int port = atoi(words[1]), loops = atoi(words[2]), told;
    pid_t children[1024];
    sigset_t end;
    FILE *file = fopen(words[3], "rb");
    if (!file) fail(words[3]);
    answer_bytes = fread(answer, 1, sizeof answer, file);
    for (int i = 0; i < PIPELINE; i++) memcpy(answers + (size_t)i * answer_bytes, answer, answer_bytes);

    if (loops < 1 || loops > 1024) return 2;
    sigemptyset(&end);
    sigaddset(&end, SIGTERM);
    sigaddset(&end, SIGINT);
    sigprocmask(SIG_BLOCK, &end, NULL);
    signal(SIGPIPE, SIG_IGN);
    for (int core = 0; core < loops; core++) {
        /* Bound before the fork, so that "ready" means ready. */
        int listener = listen_on(port);
        pid_t child = fork();
        if (child < 0) fail("fork");
        if (child == 0) {
            cpu_set_t cores;
            CPU_ZERO(&cores);
            CPU_SET(core, &cores);
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            sched_setaffinity(0, sizeof cores, &cores);
            loop(listener, count == 5);
        }
        children[core] = child;
        close(listener);
    }
    puts("ready");
    fflush(stdout);
    sigwait(&end, &told);
    for (int core = 0; core < loops; core++) kill(children[core], SIGKILL);
    while (wait(NULL) > 0) {}
    return 0;
}
