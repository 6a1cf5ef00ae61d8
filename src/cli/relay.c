#include "cli/session.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { BLOCK_BYTES = 64 * 1024, KEY_DETACH_FIRST = 0x10, KEY_DETACH_SECOND = 0x11, KEY_END_OF_FILE = 0x04 };

struct relaying {
	struct relay *r;
	bool raw;                 /* our terminal is */
	bool detachable;          /* then keys are looked at */
	bool key_held;            /* the first detach key, which may be the container's */
	bool detach, in_ended;
	char *in;                 /* typed and not taken yet */
	size_t in_from, in_to;
	char *out;
};

int session_signals(struct err *e)
{
	static const int all[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT };
	sigset_t set;
	int fd;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		sigaddset(&set, all[i]);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? err_sys(e, errno, "signalfd") : fd;
}

int session_signal_taken(int signal_fd)
{
	struct signalfd_siginfo info;

	if (read(signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info) || info.ssi_signo == SIGWINCH ||
	    info.ssi_signo == SIGCONT)
		return 0;
	return 128 + (int)info.ssi_signo;
}

static void resize(const struct monitor_session *s)
{
	unsigned width, height;
	struct err ignored; /* the terminal may have gone with its container */

	if (s->tty >= 0 && terminal_size(&width, &height))
		(void)monitor_session_resize(s->tty, width, height, &ignored);
}

/* --- to the container -------------------------------------------------------------------------------------------- */

/* Takes the detach keys out of what was typed; what comes between them is the container's. */
static size_t keys_take(struct relaying *x, const char *typed, size_t n)
{
	size_t to = 0;

	for (size_t i = 0; i < n && !x->detach; i++) {
		if (x->key_held && typed[i] == KEY_DETACH_SECOND) {
			x->detach = true;
			break;
		}
		if (x->key_held)
			x->in[to++] = KEY_DETACH_FIRST;
		x->key_held = typed[i] == KEY_DETACH_FIRST;
		if (!x->key_held)
			x->in[to++] = typed[i];
	}
	return to;
}

/* A terminal has no end: its character for that is typed. */
static void in_end(struct relaying *x)
{
	struct monitor_session *s = x->r->session;

	x->in_ended = true;
	if (s->tty < 0) {
		fd_close(&s->in);
		return;
	}
	x->in[x->in_to++] = KEY_END_OF_FILE;
}

static void in_read(struct relaying *x)
{
	char typed[BLOCK_BYTES / 2];
	ssize_t n = read(STDIN_FILENO, x->detachable ? typed : x->in, sizeof(typed));

	x->in_from = x->in_to = 0;
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0)
		in_end(x);
	else
		x->in_to = x->detachable ? keys_take(x, typed, (size_t)n) : (size_t)n;
}

static void in_write(struct relaying *x)
{
	struct monitor_session *s = x->r->session;

	while (s->in >= 0 && x->in_from < x->in_to) {
		ssize_t n = write(s->in, x->in + x->in_from, x->in_to - x->in_from);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			fd_close(&s->in); /* the container reads no more */
			return;
		}
		x->in_from += (size_t)n;
	}
}

/* --- from the container ------------------------------------------------------------------------------------------- */

/* A piece of it: 1, nothing now: 0. */
static int out_copy(struct relaying *x, int *from, int to, struct err *e)
{
	ssize_t n;

	if (*from < 0)
		return 0;
	do {
		n = read(*from, x->out, BLOCK_BYTES);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n <= 0) { /* EIO is a terminal's end */
		fd_close(from);
		return 0;
	}
	return fd_write_all(to, x->out, (size_t)n, e) < 0 ? -1 : 1;
}

static int out_finish(struct relaying *x, struct err *e)
{
	struct monitor_session *s = x->r->session;
	int rc;

	while ((rc = out_copy(x, &s->out, STDOUT_FILENO, e)) > 0)
		;
	if (rc == 0)
		while ((rc = out_copy(x, &s->err, STDERR_FILENO, e)) > 0)
			;
	return rc;
}

/* --- the loop --------------------------------------------------------------------------------------------------------- */

/* The signal to end with, 0: none. */
static int signal_take(struct relaying *x)
{
	struct relay *r = x->r;
	struct signalfd_siginfo info;

	if (read(r->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return 0;
	switch (info.ssi_signo) {
	case SIGCONT: /* the shell had the terminal meanwhile */
		if (x->raw)
			terminal_raw(STDIN_FILENO);
		resize(r->session);
		return 0;
	case SIGWINCH:
		resize(r->session);
		return 0;
	default:
		if (!r->on_signal)
			return (int)info.ssi_signo;
		r->on_signal(r->ctx, (int)info.ssi_signo);
		return 0;
	}
}

static int relay_loop(struct relaying *x, enum relay_end *end, int *code, struct err *e)
{
	struct relay *r = x->r;
	struct monitor_session *s = r->session;

	for (;;) {
		bool full = x->in_from < x->in_to, reads = s->in >= 0 && !x->in_ended && !full;
		struct pollfd fds[] = {
			{ s->control, POLLIN, 0 }, { r->signal_fd, POLLIN, 0 }, { s->out, POLLIN, 0 },
			{ s->err, POLLIN, 0 }, { reads ? STDIN_FILENO : -1, POLLIN, 0 },
			{ s->in >= 0 && full ? s->in : -1, POLLOUT, 0 },
		};
		int signal;

		if (io_poll(r->cli->call, fds, ARRAY_SIZE(fds), -1, e) < 0)
			return -1;
		if (fds[1].revents && (signal = signal_take(x))) {
			*end = RELAY_SIGNALLED;
			*code = signal;
			return 0;
		}
		if ((fds[2].revents && out_copy(x, &s->out, STDOUT_FILENO, e) < 0) ||
		    (fds[3].revents && out_copy(x, &s->err, STDERR_FILENO, e) < 0))
			return -1;
		if (fds[4].revents)
			in_read(x);
		in_write(x);
		if (x->detach) {
			*end = RELAY_DETACHED;
			return 0;
		}
		if (!fds[0].revents)
			continue;
		*end = RELAY_ENDED;
		return out_finish(x, e) < 0 ? -1 : monitor_session_result(s->control, code, e);
	}
}

int relay_run(struct relay *r, enum relay_end *end, int *code, struct err *e)
{
	struct relaying x = { .r = r, .raw = r->session->tty >= 0 && r->session->in >= 0 && isatty(STDIN_FILENO) };
	int rc;

	x.detachable = x.raw && !r->is_exec;
	x.in = arena_alloc(r->cli->a, BLOCK_BYTES);
	x.out = arena_alloc(r->cli->a, BLOCK_BYTES);
	if (x.raw)
		terminal_raw(STDIN_FILENO);
	resize(r->session);
	rc = relay_loop(&x, end, code, e);
	terminal_restore();
	return rc;
}
