/* mefctl: the operator's tool. */
#include "mef-plugin/mefctl/mefctl.h"
#include <stdio.h>
#include <string.h>

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    {"init", mefctl_init, "make a folder with configuration, keys and certificate for mefd"},
    {"zigbee", mefctl_zigbee, "forge, decode and inspect Zigbee frames, keys and labels, offline"},
};

static void usage(FILE *to)
{
    fprintf(to, "Usage: mefctl COMMAND [ARGUMENTS]\n"
                "       mefctl --help | --version\n"
                "\nCommands:\n");
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        fprintf(to, "  %-12s %s\n", commands[i].name, commands[i].help);
    fprintf(to, "\n`mefctl COMMAND --help` tells more. Exit status: 0 done, 1 failed, 2 usage.\n");
}

int main(int argc, char **argv)
{
    if (argc >= 2 && strcmp(argv[1], "--help") == 0) {
        usage(stdout);
        return MEFCTL_OK;
    }
    if (argc >= 2 && strcmp(argv[1], "--version") == 0) {
        printf("mefctl %s\n", MEF_VERSION);
        return MEFCTL_OK;
    }
    for (size_t i = 0; argc >= 2 && i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    usage(stderr);
    return MEFCTL_USAGE;
}
