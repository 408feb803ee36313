var interfaceConfig = { APP_NAME: 'double of Jitsi Meet' };
