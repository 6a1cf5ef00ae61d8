#include "runtime/oci.h"

#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

int oci_fd_send(const char *socket_path, const char *text, int fd, struct err *e)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	auto_fd int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(socket_path) >= sizeof(to.sun_path))
		return err_set(e, ERR_INVALID, "%s: too long for a socket's path", socket_path);
	memcpy(to.sun_path, socket_path, strlen(socket_path) + 1);
	if (s < 0 || connect(s, (struct sockaddr *)&to, sizeof(to)) < 0)
		return err_sys(e, errno, "connect to %s", socket_path);
	return fd_send_msg(s, text, strlen(text), &fd, 1, e);
}

int oci_console_send(const char *socket_path, int console_fd, struct err *e)
{
	return oci_fd_send(socket_path, "/dev/ptmx", console_fd, e);
}

static void copy_size(int console_fd)
{
	struct winsize w;

	if (ioctl(0, TIOCGWINSZ, &w) == 0)
		(void)ioctl(console_fd, TIOCSWINSZ, &w);
}

/* Passes one read on; false at the end. */
static bool relay(int from, int to)
{
	char bytes[4096];
	ssize_t n = read(from, bytes, sizeof(bytes));
	struct err ignored;

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return true;
	return n > 0 && fd_write_all(to, bytes, (size_t)n, &ignored) == 0;
}

static void pass_signal(const struct container_process *p, int signals, int console_fd)
{
	struct signalfd_siginfo info;

	if (read(signals, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGWINCH && console_fd >= 0)
		copy_size(console_fd);
	else if (info.ssi_signo != SIGCHLD && info.ssi_signo != SIGPIPE)
		(void)syscall(SYS_pidfd_send_signal, p->pidfd, (int)info.ssi_signo, NULL, 0);
}

enum { LAST_WORDS_MS = 100 };

static int pump(const struct container_process *p, int signals, int console_fd)
{
	struct pollfd fds[4] = { { p->pidfd, POLLIN, 0 }, { signals, POLLIN, 0 }, { console_fd, POLLIN, 0 },
				 { console_fd >= 0 ? 0 : -1, POLLIN, 0 } };
	siginfo_t info = { 0 };
	bool ended = false;

	/* The terminal's last words arrive after the end: all of them where nobody else holds it, else what comes soon. */
	while (!ended || fds[2].fd >= 0) {
		int n = poll(fds, 4, ended ? LAST_WORDS_MS : -1);

		if (n == 0 || (n < 0 && errno != EINTR))
			break;
		if (n < 0)
			continue;
		if (fds[1].revents)
			pass_signal(p, signals, console_fd);
		if (fds[2].revents && !relay(console_fd, 1))
			fds[2].fd = -1;
		if (fds[3].revents && !relay(0, console_fd))
			fds[3].fd = -1;
		if (fds[0].revents) {
			ended = true;
			fds[0].fd = fds[3].fd = -1;
			fds[0].revents = 0;
		}
	}
	while (waitid((idtype_t)P_PIDFD, (id_t)p->pidfd, &info, WEXITED) < 0 && errno == EINTR)
		;
	return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}

int oci_foreground(const struct container_process *p, int console_fd, int *code, struct err *e)
{
	struct termios before, raw;
	auto_fd int signals = -1;
	bool is_tty = console_fd >= 0 && tcgetattr(0, &before) == 0;
	sigset_t all;

	sigfillset(&all);
	if (sigprocmask(SIG_BLOCK, &all, NULL) < 0)
		return err_sys(e, errno, "block signals");
	signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signals < 0)
		return err_sys(e, errno, "signalfd");
	if (is_tty) {
		raw = before;
		cfmakeraw(&raw);
		raw.c_oflag |= OPOST;
		(void)tcsetattr(0, TCSANOW, &raw);
		copy_size(console_fd);
	}
	*code = pump(p, signals, console_fd);
	if (is_tty)
		(void)tcsetattr(0, TCSANOW, &before);
	return 0;
}
