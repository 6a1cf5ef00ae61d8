#include "cli/image_verbs.h"

#include <stdio.h>

const struct verb image_verbs[] = {
	{ "ls", "[-q] [-o FORMAT]", "List images", verb_images, "list" },
	{ "pull", "[-q] IMAGE", "Fetch an image", verb_pull, NULL },
	{ "push", "IMAGE [WHERE]", "Send an image to a registry", verb_image_push, NULL },
	{ "copy", "FROM TO", "Copy an image between registries, archives, folders and this machine", verb_image_copy, "cp" },
	{ "rm", "IMAGE…", "Remove images", verb_rmi, NULL },
	{ "tag", "IMAGE NAME", "Give an image one more name", verb_tag, NULL },
	{ "inspect", "[--raw|--config] IMAGE", "Everything known of an image", verb_image_inspect, NULL },
	{ "history", "IMAGE", "The steps that made an image", verb_image_history, NULL },
	{ "tree", "[IMAGE…]", "Images as a tree of the layers they share", verb_image_tree, NULL },
	{ "du", "", "What images take on disk, shared and alone", verb_image_du, NULL },
	{ "verify", "IMAGE…", "Compare an image's blobs with their digests", verb_image_verify, NULL },
	{ "save", "[-o FILE] IMAGE…", "Write images into an archive", verb_image_save, NULL },
	{ "load", "[-i FILE] [NAME]", "Take images from an archive or a layout's folder", verb_image_load, NULL },
	{ "import", "[OPTION…] FILE|- [NAME]", "Make an image of a tar of a root file system", verb_image_import, NULL },
	{ "from-dir", "[OPTION…] DIR [NAME]", "Make an image of a folder, the same bytes each time", verb_image_from_dir, NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

static void help(void)
{
	puts("knarr image: images on this machine\n\nusage: knarr image VERB [ARG…]\n");
	for (const struct verb *v = image_verbs; v->name; v++)
		printf("  %-12s %s\n", v->name, v->help);
	puts("\nknarr image VERB --help has the verb's options.");
}

int verb_image(struct cli *cli, char *const *argv, struct err *e)
{
	if (!argv[1] || streq(argv[1], "--help") || streq(argv[1], "-h") || streq(argv[1], "help")) {
		help();
		return argv[1] ? 0 : CLI_FAILED;
	}
	for (const struct verb *v = image_verbs; v->name; v++)
		if (streq(v->name, argv[1]) || streq_null(v->alias, argv[1]))
			return cli_run_verb(cli, v, argv + 1, e);
	return err_set(e, ERR_INVALID, "there is no verb \"image %s\"; knarr image --help has them all", argv[1]);
}
