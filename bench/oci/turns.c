/* turns: times commands in turns, so that what disturbs the machine disturbs all of them alike.
 *
 * usage: turns ROUNDS PAUSE_US < PLAN
 *
 * A line of the plan is SUBJECT, STEP, PROGRAM, ARGUMENT…, with tabs between. The lines of one subject follow each other and
 * are run in their order; which subject comes first changes with each round. A step named "wait" has a file with a process's
 * number instead of a program: that process's end is waited for. The answer is a line for each step: ROUND SUBJECT STEP
 * MICROSECONDS RSS_KIB CODE. A command that hangs is killed after 20 s (code 137). The first three rounds are not told. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum { STEPS_MAX = 256, WORDS_MAX = 64, SUBJECTS_MAX = 64, WARM_UP = 3, HUNG_S = 20 };
struct step {
	const char *subject, *name;
	char *words[WORDS_MAX + 1];
};
static struct step steps[STEPS_MAX];
static int nsteps, first[SUBJECTS_MAX + 1], nsubjects;
static volatile pid_t running;

static void on_alarm(int number)
{
	(void)number;
	if (running > 0)
		(void)kill(running, SIGKILL);
}

static double now_us(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int read_plan(void)
{
	static char line[65536];

	while (fgets(line, sizeof(line), stdin)) {
		struct step *s = &steps[nsteps];
		char *rest = strdup(line), *word;
		int n = 0;

		if (!rest || nsteps == STEPS_MAX)
			return -1;
		rest[strcspn(rest, "\n")] = '\0';
		s->subject = strsep(&rest, "\t");
		s->name = strsep(&rest, "\t");
		while ((word = strsep(&rest, "\t")) && n < WORDS_MAX)
			s->words[n++] = word;
		if (!n)
			return -1;
		if (!nsteps || strcmp(s->subject, s[-1].subject) != 0) {
			if (nsubjects == SUBJECTS_MAX)
				return -1;
			first[nsubjects++] = nsteps;
		}
		nsteps++;
	}
	first[nsubjects] = nsteps;
	return nsteps ? 0 : -1;
}

static int wait_for(pid_t pid, struct rusage *usage)
{
	int status;

	running = pid;
	(void)alarm(HUNG_S);
	while (wait4(pid, &status, 0, usage) < 0)
		if (errno != EINTR)
			return 0; /* somebody else's child, gone already */
	(void)alarm(0);
	running = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static pid_t number_in(const char *path)
{
	FILE *f = fopen(path, "re");
	int pid = 0;

	if (!f)
		return 0;
	if (fscanf(f, "%d", &pid) != 1)
		pid = 0;
	(void)fclose(f);
	return pid;
}

static int do_step(const struct step *s, int null, struct rusage *usage)
{
	pid_t pid;

	if (strcmp(s->name, "wait") == 0) {
		pid = number_in(s->words[0]);
		return pid > 0 ? (wait_for(pid, usage), 0) : 1;
	}
	pid = vfork();
	if (pid == 0) {
		(void)dup2(null, 0);
		(void)dup2(null, 1);
		if (!getenv("TURNS_SHOWS"))
			(void)dup2(null, 2);
		(void)execve(s->words[0], s->words, environ);
		_exit(127);
	}
	return pid < 0 ? 126 : wait_for(pid, usage);
}

int main(int argc, char **argv)
{
	int rounds = argc > 2 ? atoi(argv[1]) : 0, pause_us = argc > 2 ? atoi(argv[2]) : 0;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (rounds < 1 || null < 0 || read_plan() < 0) {
		(void)fprintf(stderr, "usage: turns ROUNDS PAUSE_US < PLAN (see the head of turns.c)\n");
		return 2;
	}
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
	(void)signal(SIGALRM, on_alarm);
	for (int round = -WARM_UP; round < rounds; round++)
		for (int k = 0; k < nsubjects; k++) {
			int subject = (k + round + WARM_UP) % nsubjects;

			for (int i = first[subject]; i < first[subject + 1]; i++) {
				struct rusage usage = { 0 };
				double start = now_us();
				int code = do_step(&steps[i], null, &usage);

				if (round >= 0)
					(void)printf("%d\t%s\t%s\t%.1f\t%ld\t%d\n", round, steps[i].subject, steps[i].name,
						     now_us() - start, usage.ru_maxrss, code);
			}
			while (waitpid(-1, NULL, WNOHANG) > 0)
				;
			if (pause_us)
				(void)usleep((useconds_t)pause_us);
		}
	return 0;
}
