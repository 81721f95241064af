/* The program `afk` of platform wheels on Linux: it hands the call to a warm worker, or starts Python.
 *
 * A worker (afkcli/worker) keeps the modules imported, and a forked child of it stands by. This program sends that child
 * its arguments, environment and open descriptors, forwards the signals that it gets, and ends as the child ends. Where
 * anything is in doubt, before the child has begun, it executes Python with the same call instead ("cold"): process id,
 * descriptors and terminal are then those that the caller gave. Nothing is read from or written to them before.
 *
 * The child decides whether a call can be warm. The form of the messages is described in afkcli/worker/wire.py.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define FORM 1u                 /* version of what is sent */
#ifndef ANSWER_MS               /* tests give a worker that does not hang more time, on a machine that is busy */
#define ANSWER_MS 1000          /* a worker that has not answered by then hangs; its child sees the connection end */
#endif
#define LINKS 40                /* as many links in a row as the kernel follows */
#define MAX_FRAME (4u << 20)    /* a larger call is not sent */
#define DESCRIPTORS 4           /* 0, 1, 2 and the working folder */

enum flag {
    FOLDER_GIVEN = 1u << 4,     /* bits 0 to 2: the descriptor is open */
    MORE_DESCRIPTORS = 1u << 5, /* the caller opened descriptors above 2; they are not sent */
};

/* What a run does differently without a worker: nothing. `sys.path[0]` is the folder of the program, and `sys.argv[0]`
 * what the caller executed, as in a console script. Nothing is imported while the working folder is on the path. */
static const char COLD[] =
    "import sys; sys.path[:1] = sys.path[:1] if sys.flags.safe_path else [sys.argv[1]]; del sys.argv[:2]; "
    "from afkcli.entry import main; sys.exit(main())";

static const int FORWARDED[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT, SIGTSTP};
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

extern char **environ;

/* ---- Where this program is installed ---- */

struct place {
    char called[PATH_MAX];      /* what the caller executed: maybe relative, maybe a link */
    char folder[PATH_MAX];      /* the folder of the program, in its environment */
    char prefix[PATH_MAX];      /* the folder above it, without links */
    char python[PATH_MAX];      /* the interpreter of the environment */
    bool beside;                /* whether the interpreter is in the same folder */
};

/* Write a path; an overlong one becomes empty, and is then not found. */
__attribute__((format(printf, 2, 3))) static bool put(char path[PATH_MAX], const char *form, ...)
{
    va_list values;
    va_start(values, form);
    int length = vsnprintf(path, PATH_MAX, form, values);
    va_end(values);
    if (length < 0 || length >= PATH_MAX) {
        path[0] = '\0';
        return false;
    }
    return true;
}

static bool cut_last(char *path)
{
    char *slash = strrchr(path, '/');
    if (slash == NULL || slash == path)
        return false;
    *slash = '\0';
    return true;
}

static bool read_link(const char *path, char target[PATH_MAX])
{
    ssize_t length = readlink(path, target, PATH_MAX - 1);
    if (length <= 0 || length >= PATH_MAX - 1)
        return false;
    target[length] = '\0';
    return true;
}

/* Whether the folder of `program` is the one of a virtual environment. */
static bool is_in_environment(const char *program, struct place *place)
{
    char marker[PATH_MAX];
    return put(place->folder, "%s", program) && cut_last(place->folder) &&
           put(marker, "%s/../pyvenv.cfg", place->folder) && access(marker, F_OK) == 0;
}

/* Follow links of `uv tool` and pipx (and of uv, which may link programs from its cache) one by one, to the first that
 * lies in an environment. */
static bool follow_links(const char *called, struct place *place)
{
    char path[PATH_MAX], target[PATH_MAX], next[PATH_MAX], here[PATH_MAX];
    if (called[0] == '/') {
        if (!put(path, "%s", called))
            return false;
    } else if (getcwd(here, sizeof here) == NULL || !put(path, "%s/%s", here, called)) {
        return false;
    }
    for (int link = 0; link < LINKS; link++) {
        if (is_in_environment(path, place))
            return true;
        if (!read_link(path, target))
            return false;
        if (target[0] == '/') {
            if (!put(next, "%s", target))
                return false;
        } else if (!cut_last(path) || !put(next, "%s/%s", path, target)) {
            return false;
        }
        if (!put(path, "%s", next))
            return false;
    }
    return false;
}

/* Look for an executable in folders that are separated by colons. */
static bool is_found(const char *folders, const char *name, char path[PATH_MAX])
{
    while (folders != NULL && *folders != '\0') {
        const char *end = strchrnul(folders, ':');
        int length = (int)(end - folders);
        if (length > 0 && folders[0] == '/' && put(path, "%.*s/%s", length, folders, name) && access(path, X_OK) == 0)
            return true;
        folders = *end != '\0' ? end + 1 : NULL;
    }
    return false;
}

/* Find the version of Python into whose packages afk was installed below this prefix: "python3.12". */
static bool find_version(const char *prefix, char version[NAME_MAX + 1])
{
    static const char *const FORMS[] = {"%s/%s/site-packages/afkcli/entry.py", "%s/%s/dist-packages/afkcli/entry.py"};
    static const char *const FOLDERS[] = {"lib", "lib64", "local/lib"};
    char folder[PATH_MAX], file[PATH_MAX];
    for (size_t at = 0; at < COUNT(FOLDERS); at++) {
        DIR *list = put(folder, "%s/%s", prefix, FOLDERS[at]) ? opendir(folder) : NULL;
        for (struct dirent *entry; list != NULL && (entry = readdir(list)) != NULL;) {
            if (strncmp(entry->d_name, "python3", 7) != 0)
                continue;
            if ((put(file, FORMS[0], folder, entry->d_name) && access(file, F_OK) == 0) ||
                (put(file, FORMS[1], folder, entry->d_name) && access(file, F_OK) == 0)) {
                strcpy(version, entry->d_name); /* both have room for the longest name */
                closedir(list);
                return true;
            }
        }
        if (list != NULL)
            closedir(list);
    }
    return false;
}

/* Outside a virtual environment (`pip install --user`) the interpreter is one of the version that has the packages. */
static bool find_python(struct place *place)
{
    char name[NAME_MAX + 1] = "python3";
    if (find_version(place->prefix, name) && put(place->python, "%s/%s", place->folder, name) &&
        access(place->python, X_OK) == 0)
        return place->beside = true;
    return is_found(getenv("PATH"), name, place->python) || is_found("/usr/local/bin:/usr/bin", name, place->python);
}

static bool find_place(struct place *place, char **argv)
{
    const char *called = (const char *)getauxval(AT_EXECFN);
    if (called == NULL)
        called = argv[0] != NULL ? argv[0] : "afk";
    if (!put(place->called, "%s", called))
        return false;
    char self[PATH_MAX], above[PATH_MAX];
    if (!follow_links(called, place) &&
        !(read_link("/proc/self/exe", self) && put(place->folder, "%s", self) && cut_last(place->folder)))
        return false;
    if (!put(above, "%s/..", place->folder) || realpath(above, place->prefix) == NULL)
        return false;
    char marker[PATH_MAX];
    place->beside = put(marker, "%s/pyvenv.cfg", place->prefix) && access(marker, F_OK) == 0 &&
                    put(place->python, "%s/python", place->folder) && access(place->python, X_OK) == 0;
    return place->beside || find_python(place);
}

/* ---- Cold: Python in this process ---- */

__attribute__((noreturn)) static void run_cold(const struct place *place, int argc, char **argv)
{
    char **given = calloc((size_t)argc + 6, sizeof *given);
    if (given != NULL) {
        int at = 0;
        given[at++] = (char *)place->python;
        given[at++] = "-c";
        given[at++] = (char *)COLD;
        given[at++] = (char *)place->folder;
        given[at++] = (char *)place->called;
        for (int each = 1; each < argc; each++)
            given[at++] = argv[each];
        execv(place->python, given);
    }
    dprintf(STDERR_FILENO, "afk: cannot start %s: %s; install afk again\n", place->python, strerror(errno));
    _exit(126);
}

/* ---- The connection ---- */

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* A descriptor of ours never takes the number of one that the caller has closed. */
static int above_standard(int descriptor)
{
    if (descriptor < 0 || descriptor > STDERR_FILENO)
        return descriptor;
    int moved = fcntl(descriptor, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    close(descriptor);
    return moved;
}

static bool is_own_folder(int folder, mode_t others)
{
    struct stat found;
    return fstat(folder, &found) == 0 && S_ISDIR(found.st_mode) && found.st_uid == getuid() &&
           (found.st_mode & 07777 & others) == 0;
}

static int open_folder(const char *path, mode_t others)
{
    int folder = above_standard(open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (folder >= 0 && !is_own_folder(folder, others)) {
        close(folder);
        return -1;
    }
    return folder;
}

/* Open the folder of the sockets: the user's own, with no rights for others. */
static int open_default_folder(void)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    char path[PATH_MAX];
    if (runtime != NULL && runtime[0] == '/') {
        int outer = open_folder(runtime, 0077);
        if (outer >= 0) {
            close(outer);
            return put(path, "%s/afk", runtime) ? open_folder(path, 07077) : -1;
        }
    }
    return put(path, "/tmp/afk-%u", (unsigned)getuid()) ? open_folder(path, 07077) : -1;
}

static uint64_t hashed(uint64_t hash, const char *bytes, size_t length) /* FNV-1a */
{
    for (size_t at = 0; at < length; at++)
        hash = (hash ^ (unsigned char)bytes[at]) * UINT64_C(1099511628211);
    return hash;
}

/* Name the socket: one for each environment and home. */
static void put_name(char name[NAME_MAX + 1], const struct place *place)
{
    const char *afk_home = getenv("AFK_HOME"), *home = getenv("HOME");
    uint64_t hash = hashed(UINT64_C(14695981039346656037), place->prefix, strlen(place->prefix) + 1);
    if (afk_home == NULL)
        afk_home = "";
    hash = hashed(hash, afk_home, strlen(afk_home) + 1);
    if (home != NULL)
        hash = hashed(hash, home, strlen(home));
    snprintf(name, NAME_MAX + 1, "%016llx.sock", (unsigned long long)hash);
}

/* Whether this process may look into another one. It may not from within a sandbox of Landlock (landlock(7)), of which
 * nothing else tells: a command that ran in a process outside would get past it. */
static bool may_look_into(pid_t pid)
{
    char path[PATH_MAX], target[PATH_MAX];
    return put(path, "/proc/%ld/ns/mnt", (long)pid) && read_link(path, target);
}

static bool is_own_peer(int connection)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    return getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == getuid() &&
           may_look_into(peer.pid);
}

/* Open the folder of the socket and write the socket's name in it; -1 where the folder is not safe. */
static int open_runtime_folder(char name[NAME_MAX + 1], const struct place *place)
{
    const char *given = getenv("AFK_WORKER_SOCKET");
    if (given == NULL || given[0] == '\0') {
        put_name(name, place);
        return open_default_folder();
    }
    char path[PATH_MAX];
    const char *last = strrchr(given, '/');
    if (given[0] != '/' || strlen(last + 1) > NAME_MAX || !put(path, "%s", given) || !cut_last(path))
        return -1;
    strcpy(name, last + 1);
    return open_folder(path, 07077);
}

/* Connect to the worker of this environment; -1 where there is none, or where it has no room. It does not wait. */
static int connect_to_worker(const struct place *place)
{
    char name[NAME_MAX + 1];
    int folder = open_runtime_folder(name, place);
    if (folder < 0)
        return -1;
    struct stat found;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int length = snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", folder, name);
    int connection = -1;
    if (length < (int)sizeof address.sun_path && fstatat(folder, name, &found, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISSOCK(found.st_mode))
        connection = above_standard(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (connection >= 0 &&
        (connect(connection, (struct sockaddr *)&address, sizeof address) != 0 || !is_own_peer(connection))) {
        close(connection);
        connection = -1;
    }
    close(folder);
    return connection;
}

/* Wait until the connection is ready for one of `events`, at most until `deadline`. */
static bool is_ready(int connection, short events, int64_t deadline)
{
    for (;;) {
        int64_t left = deadline - now_ms();
        struct pollfd wanted = {.fd = connection, .events = events};
        int ready = left > 0 ? poll(&wanted, 1, (int)left) : 0;
        if (ready > 0)
            return true;
        if (ready == 0 || errno != EINTR)
            return false;
    }
}

/* ---- What the child needs to know ---- */

struct buffer {
    unsigned char *bytes;
    size_t length, room;
    bool failed;
};

static void add(struct buffer *buffer, const void *bytes, size_t length)
{
    if (buffer->failed)
        return;
    if (buffer->length + length > buffer->room) {
        size_t room = (buffer->length + length) * 2;
        unsigned char *grown = realloc(buffer->bytes, room);
        if (grown == NULL) {
            buffer->failed = true;
            return;
        }
        buffer->bytes = grown;
        buffer->room = room;
    }
    memcpy(buffer->bytes + buffer->length, bytes, length);
    buffer->length += length;
}

static void put_u32(unsigned char bytes[4], uint32_t value)
{
    for (int at = 0; at < 4; at++)
        bytes[at] = (unsigned char)(value >> (8 * at));
}

static void add_u32(struct buffer *buffer, uint32_t value)
{
    unsigned char bytes[4];
    put_u32(bytes, value);
    add(buffer, bytes, sizeof bytes);
}

static void add_u64(struct buffer *buffer, uint64_t value)
{
    add_u32(buffer, (uint32_t)value);
    add_u32(buffer, (uint32_t)(value >> 32));
}

static void add_string(struct buffer *buffer, const char *string)
{
    add(buffer, string, strlen(string) + 1);
}

/* The signals that this process ignores, or blocks: the lowest bit is signal 1, as in /proc. */
static void add_signals(struct buffer *buffer)
{
    uint64_t ignored = 0, blocked = 0;
    sigset_t mask;
    sigprocmask(SIG_BLOCK, NULL, &mask);
    for (int number = 1; number < NSIG; number++) {
        struct sigaction action;
        if (sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
            ignored |= UINT64_C(1) << (number - 1);
        if (sigismember(&mask, number) == 1)
            blocked |= UINT64_C(1) << (number - 1);
    }
    add_u64(buffer, ignored);
    add_u64(buffer, blocked);
}

static void add_strings(struct buffer *buffer, const char *first, char **strings)
{
    uint32_t count = first != NULL;
    for (char **each = strings; *each != NULL; each++)
        count++;
    add_u32(buffer, count);
    if (first != NULL)
        add_string(buffer, first);
    for (char **each = strings; *each != NULL; each++)
        add_string(buffer, *each);
}

/* Make the one frame that is sent: a mark, the length of what follows, and that. The child reads the rest of what it
 * compares (limits, namespaces, groups) from /proc. */
static bool describe_call(struct buffer *frame, const struct place *place, uint32_t flags, int argc, char **argv)
{
    mode_t mask = umask(0);
    umask(mask);
    add(frame, "AFKWARM1", 8);
    add_u32(frame, 0);
    size_t head = frame->length;
    add_u32(frame, FORM);
    add_u32(frame, (uint32_t)getpid());
    add_u32(frame, flags);
    add_u32(frame, mask);
    add_signals(frame);
    add_strings(frame, place->called, argv + (argc > 0));
    add_strings(frame, NULL, environ);
    if (frame->failed || frame->length - head > MAX_FRAME)
        return false;
    put_u32(frame->bytes + head - 4, (uint32_t)(frame->length - head));
    return true;
}

/* ---- The hand-over ---- */

struct descriptors {
    int numbers[DESCRIPTORS];
    size_t count;
    uint32_t flags;
};

/* Whether the caller left descriptors above 2 open; called before this program opens its own. */
static bool has_more_descriptors(void)
{
    DIR *list = opendir("/proc/self/fd");
    bool more = list == NULL;
    for (struct dirent *entry; list != NULL && (entry = readdir(list)) != NULL;) {
        int number = atoi(entry->d_name);
        more = more || (number > STDERR_FILENO && number != dirfd(list));
    }
    if (list != NULL)
        closedir(list);
    return more;
}

/* Find what is given to the child; `folder` is the descriptor of the working folder, or -1. */
static void find_descriptors(struct descriptors *given, int *folder)
{
    given->count = 0;
    given->flags = has_more_descriptors() ? MORE_DESCRIPTORS : 0;
    for (int number = 0; number <= STDERR_FILENO; number++) {
        if (fcntl(number, F_GETFD) == -1)
            continue;
        given->numbers[given->count++] = number;
        given->flags |= 1u << number;
    }
    *folder = above_standard(open(".", O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (*folder >= 0) {
        given->numbers[given->count++] = *folder;
        given->flags |= FOLDER_GIVEN;
    }
}

static bool send_call(int connection, const struct buffer *frame, int64_t deadline)
{
    for (size_t sent = 0; sent < frame->length;) {
        ssize_t more = send(connection, frame->bytes + sent, frame->length - sent, MSG_NOSIGNAL);
        if (more > 0)
            sent += (size_t)more;
        else if (!(more < 0 && errno == EINTR) &&
                 !(more < 0 && errno == EAGAIN && is_ready(connection, POLLOUT, deadline)))
            return false;
    }
    return true;
}

/* Agree to what the child has said, and give it the descriptors. Not before: what lies unread in the socket of a worker
 * that hangs would keep the caller's pipe open after a cold run. */
static bool agree(int connection, const struct descriptors *given)
{
    union {
        char bytes[CMSG_SPACE(DESCRIPTORS * sizeof(int))];
        struct cmsghdr aligned;
    } rights = {{0}};
    struct iovec part = {.iov_base = "G", .iov_len = 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (given->count > 0) {
        message.msg_control = rights.bytes;
        message.msg_controllen = CMSG_SPACE(given->count * sizeof(int));
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(given->count * sizeof(int));
        memcpy(CMSG_DATA(head), given->numbers, given->count * sizeof(int));
    }
    return sendmsg(connection, &message, MSG_NOSIGNAL) == 1;
}

/* Read exactly so many bytes, at most until `deadline`. */
static bool receive(int connection, unsigned char *bytes, size_t length, int64_t deadline)
{
    for (size_t got = 0; got < length;) {
        if (!is_ready(connection, POLLIN, deadline))
            return false;
        ssize_t more = recv(connection, bytes + got, length - got, 0);
        if (more > 0)
            got += (size_t)more;
        else if (more == 0 || (errno != EINTR && errno != EAGAIN))
            return false;
    }
    return true;
}

/* Offer this call; return the connection, and the process that took it. -1: it was refused, or not answered in time. */
static int offer(const struct place *place, uint32_t flags, int argc, char **argv, pid_t *child)
{
    int64_t deadline = now_ms() + ANSWER_MS;
    int connection = connect_to_worker(place);
    if (connection < 0)
        return -1;
    struct buffer frame = {0};
    unsigned char answer[5];
    bool taken = describe_call(&frame, place, flags, argc, argv) && send_call(connection, &frame, deadline) &&
                 receive(connection, answer, 1, deadline) && answer[0] == 'W' &&
                 receive(connection, answer + 1, 4, deadline);
    free(frame.bytes);
    if (!taken) {
        close(connection);
        return -1;
    }
    *child = (pid_t)(answer[1] | (uint32_t)answer[2] << 8 | (uint32_t)answer[3] << 16 | (uint32_t)answer[4] << 24);
    return connection;
}

/* ---- Beside the run of the child ---- */

struct run {
    int connection;
    pid_t child;
    bool begun;                 /* the child says so just before it runs the command */
    unsigned char last;         /* the first byte of a message whose second one is still to come, or 0 */
    sigset_t before;            /* the blocked signals as the caller left them */
    uint32_t forwarded;         /* which signals were, by their place in FORWARDED */
};

static volatile sig_atomic_t arrived[COUNT(FORWARDED)];

static void note_signal(int number)
{
    for (size_t at = 0; at < COUNT(FORWARDED); at++)
        if (FORWARDED[at] == number)
            arrived[at] = 1;
}

/* Catch what is to be forwarded. It is delivered only in ppoll(), so that none is lost between two looks. */
static void catch_signals(struct run *run)
{
    sigset_t caught;
    sigemptyset(&caught);
    for (size_t at = 0; at < COUNT(FORWARDED); at++)
        sigaddset(&caught, FORWARDED[at]);
    sigprocmask(SIG_BLOCK, &caught, &run->before);
    for (size_t at = 0; at < COUNT(FORWARDED); at++) {
        struct sigaction action = {.sa_handler = note_signal}, old;
        bool ignored = sigaction(FORWARDED[at], NULL, &old) != 0 || old.sa_handler == SIG_IGN;
        if (!ignored || FORWARDED[at] == SIGCONT) /* which continues a process that ignores it, too */
            sigaction(FORWARDED[at], &action, NULL);
    }
}

static void set_default(int number)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigaction(number, &action, NULL);
}

/* Undo `catch_signals`; a signal that would have ended Python at its start ends this process now. */
static void release_signals(const struct run *run)
{
    for (size_t at = 0; at < COUNT(FORWARDED); at++) {
        struct sigaction old;
        if (sigaction(FORWARDED[at], NULL, &old) != 0 || old.sa_handler != note_signal)
            continue;
        set_default(FORWARDED[at]);
        if ((run->forwarded >> at & 1 || arrived[at]) && FORWARDED[at] != SIGTSTP)
            raise(FORWARDED[at]);
    }
    sigprocmask(SIG_SETMASK, &run->before, NULL);
}

static void tell_signal(struct run *run, int number)
{
    unsigned char message[2] = {'S', (unsigned char)number};
    (void)send(run->connection, message, sizeof message, MSG_NOSIGNAL); /* a closed connection shows when it is read */
}

/* A stopped process does not read: it is continued by a signal. */
static void wake(const struct run *run)
{
    if (run->child > 0)
        kill(run->child, SIGCONT);
}

static void forward_signals(struct run *run)
{
    for (size_t at = 0; at < COUNT(FORWARDED); at++) {
        if (!arrived[at])
            continue;
        arrived[at] = 0;
        run->forwarded |= 1u << at;
        if (FORWARDED[at] == SIGCONT)
            wake(run);
        tell_signal(run, FORWARDED[at]);
    }
}

/* Stop as the child does, and continue it when this process continues. In a process group without a shell, the kernel
 * does not stop it, as it would not stop Python. */
static void stop(struct run *run)
{
    sigset_t stopping, before;
    struct sigaction kept;
    sigemptyset(&stopping);
    sigaddset(&stopping, SIGTSTP);
    sigaction(SIGTSTP, NULL, &kept);
    set_default(SIGTSTP);
    raise(SIGTSTP);
    sigprocmask(SIG_UNBLOCK, &stopping, &before); /* it stops here */
    sigprocmask(SIG_SETMASK, &before, NULL);
    sigaction(SIGTSTP, &kept, NULL);
    wake(run);
    tell_signal(run, SIGCONT);
}

/* Stop by SIGSTOP, as the child was, in a process group without a shell too. */
static void suspend(struct run *run)
{
    raise(SIGSTOP); /* it stops here */
    wake(run);
    tell_signal(run, SIGCONT);
}

/* End by this signal, as the child did, so that a shell sees the same. */
__attribute__((noreturn)) static void die(int number)
{
    struct rlimit none = {0, 0};
    sigset_t only;
    setrlimit(RLIMIT_CORE, &none); /* what there is to see was the child's */
    if (number > 0 && number < NSIG) {
        set_default(number);
        sigemptyset(&only);
        sigaddset(&only, number);
        raise(number);
        sigprocmask(SIG_UNBLOCK, &only, NULL);
    }
    _exit(128 + (number & 127)); /* the first process of a container does not die of a signal of its own */
}

enum next { CONTINUE, COLD_START };

/* Do what a byte of the child says. Unless the command has begun, this process may still start cold. */
static enum next take_byte(struct run *run, unsigned char byte)
{
    unsigned char message = run->last;
    run->last = 0;
    if (!run->begun) {
        run->begun = byte == 'B';
        return run->begun ? CONTINUE : COLD_START;
    }
    if (message == 'X')
        _exit(byte);
    if (message == 'K')
        die(byte);
    if (byte == 'T')
        stop(run);
    else if (byte == 'U')
        suspend(run);
    else if (byte == 'X' || byte == 'K')
        run->last = byte;
    else
        die(SIGKILL);
    return CONTINUE;
}

/* Read what the child says, without waiting; its end without a word is one by SIGKILL. */
static enum next listen_to_child(struct run *run)
{
    unsigned char bytes[64];
    ssize_t length = recv(run->connection, bytes, sizeof bytes, 0);
    if (length < 0 && (errno == EAGAIN || errno == EINTR))
        return CONTINUE;
    if (length <= 0) {
        if (run->begun)
            die(SIGKILL);
        return COLD_START;
    }
    for (ssize_t at = 0; at < length; at++)
        if (take_byte(run, bytes[at]) == COLD_START)
            return COLD_START;
    return CONTINUE;
}

/* Let the child run the command, and accompany it to its end. Returns only if the child ended before it had begun.
 *
 * The child hides its keys from the processes that tools start. This process has the same environment, and hides it too,
 * once the child has read of it what it compares; executing Python undoes that. */
static void accompany(int connection, pid_t child, const struct descriptors *given)
{
    struct run run = {.connection = connection, .child = child};
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    catch_signals(&run);
    bool gone = !agree(connection, given);
    while (!gone) {
        struct pollfd wanted = {.fd = connection, .events = POLLIN};
        forward_signals(&run);
        if (ppoll(&wanted, 1, NULL, &run.before) > 0)
            gone = listen_to_child(&run) == COLD_START;
    }
    close(connection);
    release_signals(&run);
}

static bool is_turned_off(void)
{
    static const char *const OFF[] = {"off", "0", "no", "false"};
    const char *value = getenv("AFK_WORKER");
    for (size_t at = 0; value != NULL && at < COUNT(OFF); at++)
        if (strcasecmp(value, OFF[at]) == 0)
            return true;
    return false;
}

int main(int argc, char **argv)
{
    static struct place place;
    if (!find_place(&place, argv)) {
        dprintf(STDERR_FILENO, "afk: no Python found for %s; use: python3 -m afkcli\n", place.called);
        return 126;
    }
    bool same_user = getuid() == geteuid() && getgid() == getegid() && getauxval(AT_SECURE) == 0;
    if (place.beside && same_user && !is_turned_off()) {
        struct descriptors given;
        int folder;
        pid_t child = 0;
        find_descriptors(&given, &folder);
        int connection = offer(&place, given.flags, argc, argv, &child);
        if (connection >= 0)
            accompany(connection, child, &given);
        if (folder >= 0)
            close(folder);
    }
    run_cold(&place, argc, argv);
}
