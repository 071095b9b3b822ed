package boxlite

// Code generated from boxlite_images.h by the tests of the library. DO NOT EDIT.

const (
	storageReadOnly            = 1
	storageSingleProcess       = 2
	durabilityFull             = 0
	durabilityNone             = 1
	treeDeviceNodes            = 1
	treeStrict                 = 2
	treeOverrideStat           = 4
	entryFlagImplied           = 1
	imageName                  = 1
	imageManifestDigest        = 2
	imageConfigDigest          = 3
	imageConfigJSON            = 4
	imageCreated               = 5
	imageArchitecture          = 6
	imageVariant               = 7
	imageOS                    = 8
	imageEntrypoint            = 9
	imageCmd                   = 10
	imageEnv                   = 11
	imageWorkingDir            = 12
	imageUser                  = 13
	imageStopSignal            = 14
	imageExposedPort           = 15
	imageVolume                = 16
	imageLabelKey              = 17
	imageLabelValue            = 18
	imageMissing               = 19
	imageIndexDigest           = 20
	imageFamiliarName          = 21
	pullNoUnpack               = 1
	pullStrictPlatform         = 2
	pullAuthFiles              = 4
	pullNoCredentialHelpers    = 8
	pullProxyEnvironment       = 16
	pullMirrorsOnly            = 32
	registryPlainHTTP          = 1
	registrySkipVerify         = 2
	importNoUnpack             = 1
	importStrictPlatform       = 2
	importHardLink             = 4
	exportFolder               = 1
	exportReplace              = 2
	rootfsReplace              = 1
	rootfsIntoExisting         = 2
	diskFlagReplace            = 1
	diskFlagStrict             = 2
	diskFlagDirect             = 4
	diskFlagJournal            = 8
	diskFlagGrowable           = 16
	diskFlagVerity             = 32
	commitFlagEpoch            = 1
	commitFlagCrossFileSystems = 2
	commitFlagUserxattr        = 4
	commitFlagCompareContent   = 8
	gcDryRun                   = 1
	gcAnyAge                   = 2
	checkRepair                = 1
	checkSkipTrees             = 2
)
