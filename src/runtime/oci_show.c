/* state, list, ps: what is known of the containers, in runc's texts. */
#include "runtime/oci.h"

#include "base/call.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/opt.h"
#include "base/proc.h"
#include "base/str.h"
#include "spec/passwd.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct json_field report_fields[] = {
	{ "ociVersion", JSON_STR, offsetof(struct oci_report, oci_version) },
	{ "id", JSON_STR, offsetof(struct oci_report, id) },
	{ "pid", JSON_I32, offsetof(struct oci_report, pid), JSON_KEEP_ZERO },
	{ "status", JSON_STR, offsetof(struct oci_report, status) },
	{ "bundle", JSON_STR, offsetof(struct oci_report, bundle) },
	{ "rootfs", JSON_STR, offsetof(struct oci_report, rootfs) },
	{ "created", JSON_STR, offsetof(struct oci_report, created) },
	{ "annotations", JSON_MAP, offsetof(struct oci_report, annotations) },
	{ "owner", JSON_STR, offsetof(struct oci_report, owner), JSON_KEEP_ZERO },
	{ 0 },
};

static struct oci_report report(struct oci_app *app, const struct oci_record *r)
{
	auto_fd int pidfd = -1;
	enum oci_status status = oci_record_status(app, r, &pidfd);

	return (struct oci_report){
		.oci_version = (char *)OCI_VERSION, .id = r->id, .pid = status == OCI_STOPPED ? 0 : r->pid,
		.status = (char *)oci_status_name(status), .bundle = r->bundle, .rootfs = r->rootfs,
		.created = r->created, .annotations = r->annotations, .owner = (char *)"",
	};
}

int oci_state_command(struct oci_app *app, char *const *argv, struct err *e)
{
	auto_buf b = BUF(1 << 20), pretty = BUF(4 << 20);
	struct oci_record r;
	struct oci_report out;
	const char *id = NULL;

	if (oci_only_id(app, argv, &id, e) < 0 || oci_record_load(app, id, &r, e) < 0)
		return -1;
	out = report(app, &r);
	if (json_write(&b, report_fields, &out, e) < 0 || oci_json_indent(&pretty, buf_str(&b), "  ", e) < 0)
		return -1;
	return fd_write_all(1, pretty.p, pretty.len, e);
}

/* --- list ----------------------------------------------------------------------------------------- */

/* Whose the container's folder is; "#7" where the host has no name for it. */
static char *owner_of(struct oci_app *app, struct str passwd, const char *id)
{
	struct passwd_entry who;
	struct stat st;

	if (stat(oci_record_path(app, id, ""), &st) < 0)
		return (char *)"";
	if (passwd_find(passwd, NULL, st.st_uid, &who))
		return str_dup(&app->arena, who.name);
	return arena_printf(&app->arena, "#%u", st.st_uid);
}

static struct oci_report *reports(struct oci_app *app, char *const *ids, size_t *n)
{
	struct oci_report *all = arena_newn0(&app->arena, struct oci_report, strv_len(ids) + 1);
	struct str passwd = { 0 };
	struct err ignored;

	(void)fs_read_file(&app->arena, AT_FDCWD, "/etc/passwd", 1 << 20, &passwd, &ignored); /* else numbers */
	for (*n = 0; *ids; ids++) {
		struct oci_record r;

		if (oci_record_load(app, *ids, &r, &ignored) < 0)
			continue; /* deleted meanwhile, or just being made */
		all[*n] = report(app, &r);
		all[(*n)++].owner = owner_of(app, passwd, *ids);
	}
	return all;
}

static int list_json(const struct oci_report *all, size_t n, struct err *e)
{
	auto_buf b = BUF(64 << 20);

	if (!n)
		return buf_addz(&b, "null\n", e) < 0 ? -1 : fd_write_all(1, b.p, b.len, e);
	for (size_t i = 0; i < n; i++)
		if (buf_addz(&b, i ? "," : "[", e) < 0 || json_write(&b, report_fields, &all[i], e) < 0)
			return -1;
	return buf_addz(&b, "]\n", e) < 0 ? -1 : fd_write_all(1, b.p, b.len, e);
}

/* Columns as wide as their widest word and three blanks, and at least twelve. */
static void list_table(struct oci_app *app, const struct oci_report *all, size_t n)
{
	enum { COLUMNS = 6 };
	const char *(*rows)[COLUMNS] = arena_alloc(&app->arena, (n + 1) * sizeof(*rows));
	int width[COLUMNS];

	memcpy(rows[0], (const char *[]){ "ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER" }, sizeof(rows[0]));
	for (size_t i = 0; i < n; i++)
		memcpy(rows[i + 1], (const char *[]){ all[i].id, arena_printf(&app->arena, "%d", all[i].pid), all[i].status,
						      all[i].bundle, all[i].created, all[i].owner }, sizeof(rows[0]));
	for (int c = 0; c < COLUMNS; c++) {
		width[c] = 12;
		for (size_t i = 0; i <= n; i++)
			width[c] = MAX(width[c], (int)strlen(rows[i][c]) + 3);
	}
	for (size_t i = 0; i <= n; i++) {
		for (int c = 0; c < COLUMNS - 1; c++)
			(void)printf("%-*s", width[c], rows[i][c]);
		(void)printf("%s\n", rows[i][COLUMNS - 1]);
	}
}

int oci_list_command(struct oci_app *app, char *const *argv, struct err *e)
{
	const char *format = "table";
	bool quiet = false;
	const struct opt opts[] = {
		{ OPT_STR, 'f', "format", &format, "FORMAT", "table or json" },
		{ OPT_FLAG, 'q', "quiet", &quiet, NULL, "only ids" },
		{ 0 },
	};
	const struct oci_report *all;
	char **words, **ids;
	size_t n;

	if (oci_options(app, opts, 0, argv, &words, e) < 0)
		return -1;
	if (words[0])
		return err_set(e, ERR_INVALID, "list: takes no argument");
	if (!quiet && !streq(format, "json") && !streq(format, "table"))
		return err_set(e, ERR_INVALID, "invalid format option: \"%s\"", format);
	if (oci_record_ids(app, &ids, e) < 0)
		return -1;
	all = reports(app, ids, &n);
	if (quiet)
		for (size_t i = 0; i < n; i++)
			(void)printf("%s\n", all[i].id);
	else if (streq(format, "json"))
		return list_json(all, n, e);
	else
		list_table(app, all, n);
	return 0;
}

/* --- ps ------------------------------------------------------------------------------------------- */

static int ps_json(const pid_t *pids, size_t n)
{
	if (!n)
		(void)printf("null");
	for (size_t i = 0; i < n; i++)
		(void)printf("%s%d", i ? "," : "[", pids[i]);
	(void)printf("%s\n", n ? "]" : "");
	return 0;
}

static bool has_pid(const pid_t *pids, size_t n, int64_t pid)
{
	for (size_t i = 0; i < n; i++)
		if (pids[i] == pid)
			return true;
	return false;
}

static struct str next_field(struct str *line)
{
	struct str word;

	while (line->len && (*line->p == ' ' || *line->p == '\t'))
		*line = (struct str){ line->p + 1, line->len - 1 };
	word = *line;
	for (word.len = 0; word.len < line->len && word.p[word.len] != ' ' && word.p[word.len] != '\t'; word.len++)
		;
	*line = (struct str){ line->p + word.len, line->len - word.len };
	return word;
}

/* Of the lines of ps(1) the title, and those whose word below "PID" is one of the container's. */
static int ps_filter(struct str text, const pid_t *pids, size_t n, struct err *e)
{
	struct str title = str_cut(&text, '\n'), rest = title, word;
	size_t column = 0;

	while ((word = next_field(&rest)).len && !str_eqz(word, "PID"))
		column++;
	if (!word.len)
		return err_set(e, ERR_INVALID, "couldn't find PID field in ps output");
	(void)printf("%.*s\n", STR_ARG(title));
	while (text.p) {
		struct str line = str_cut(&text, '\n');
		struct err ignored;
		int64_t pid;

		rest = line;
		for (size_t i = 0; i <= column; i++)
			word = next_field(&rest);
		if (str_to_i64(word, &pid, &ignored) == 0 && has_pid(pids, n, pid))
			(void)printf("%.*s\n", STR_ARG(line));
	}
	return 0;
}

static int ps_table(struct oci_app *app, char *const *words, const pid_t *pids, size_t n, struct err *e)
{
	static char *const everything[] = { (char *)"-ef", NULL };
	auto_buf out = BUF(64 << 20), err_out = BUF(65536);
	struct proc_spec spec = PROC_SPEC_INIT;
	struct proc_output result;
	char **args = strv_append(&app->arena, NULL, "ps");
	auto_call call;
	int rc;

	for (char *const *w = words[0] ? words : everything; *w; w++)
		args = strv_append(&app->arena, args, *w);
	spec.file = access("/bin/ps", X_OK) == 0 ? "/bin/ps" : "/usr/bin/ps";
	spec.argv = args;
	spec.envp = app->envp;
	call_begin(&call, 0);
	rc = proc_run(&call, &spec, (struct str){ 0 }, &out, &err_out, &result, e);
	if (rc < 0)
		return err_in(e, "ps");
	if (result.exit.code)
		return err_set(e, ERR_INVALID, "ps: exit status %d: %.*s", result.exit.code, STR_ARG(str_trim(buf_str(&err_out))));
	return ps_filter(buf_str(&out), pids, n, e);
}

int oci_ps_command(struct oci_app *app, char *const *argv, struct err *e)
{
	const char *format = "table";
	const struct opt opts[] = { { OPT_STR, 'f', "format", &format, "FORMAT", "table or json" }, { 0 } };
	struct oci_record r;
	char **words;
	pid_t *pids;
	size_t n;

	if (oci_options(app, opts, OPTS_STOP_AT_WORD, argv, &words, e) < 0)
		return -1;
	if (!words[0])
		return err_set(e, ERR_INVALID, "ps: a container id is needed");
	if (oci_record_load(app, words[0], &r, e) < 0 || oci_need_cgroup(&r, "ps", e) < 0 || oci_runtime(app, e) < 0 ||
	    cgroup_pids(&app->arena, &app->rt.cgroups, r.cgroup, &pids, &n, e) < 0)
		return -1;
	if (streq(format, "json"))
		return ps_json(pids, n);
	if (!streq(format, "table"))
		return err_set(e, ERR_INVALID, "invalid format option: \"%s\"", format);
	return ps_table(app, words + 1, pids, n, e);
}
