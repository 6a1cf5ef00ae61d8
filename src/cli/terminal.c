/* The person's own terminal, raw while a session has it. */
#include "cli/session.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

/* A program has one; a signal handler must find it. */
static struct {
	volatile sig_atomic_t is_raw;
	int fd;
	struct termios before;
} terminal = { .fd = -1 };

void terminal_restore(void)
{
	if (!terminal.is_raw)
		return;
	terminal.is_raw = 0;
	(void)tcsetattr(terminal.fd, TCSADRAIN, &terminal.before);
}

static void on_fatal(int signal)
{
	terminal_restore();
	(void)raise(signal); /* with its default action again */
}

/* Those that a relay does not take from its fd and that end the program. */
static void restore_when_killed(void)
{
	static const int fatal[] = { SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP, SIGALRM, SIGXCPU, SIGXFSZ };
	struct sigaction action = { .sa_handler = on_fatal, .sa_flags = (int)SA_RESETHAND };

	for (size_t i = 0; i < ARRAY_SIZE(fatal); i++)
		(void)sigaction(fatal[i], &action, NULL);
}

void terminal_raw(int fd)
{
	struct termios raw;

	if (tcgetattr(fd, &raw) < 0)
		return;
	if (!terminal.is_raw) {
		terminal.fd = fd;
		terminal.before = raw;
		restore_when_killed();
	}
	raw = terminal.before;
	cfmakeraw(&raw);
	terminal.is_raw = 1;
	(void)tcsetattr(fd, TCSADRAIN, &raw);
}

bool terminal_size(unsigned *width, unsigned *height)
{
	struct winsize size;

	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		if (ioctl(fd, TIOCGWINSZ, &size) < 0 || !size.ws_col || !size.ws_row)
			continue;
		*width = size.ws_col;
		*height = size.ws_row;
		return true;
	}
	return false;
}
